"""metrics: every number against a recomputation in plain loops, or against scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import average_precision_score, roc_auc_score

from imgsearch_utils import metrics

IMAGES = [f"i{n}" for n in range(8)]


def by_hand(run, grades, query, cut):
    """One query's measures by loops over the definition: `run` and `grades` map image -> score,
    grade.
    """
    listed = sorted(run[query], key=lambda image: (-run[query][image], image))
    known = grades[query]
    judged = [known[image] for image in listed if image in known]
    first = judged[:cut]
    dcg = sum((2**g - 1) / math.log2(place + 2) for place, g in enumerate(first))
    ideal = sum(
        (2**g - 1) / math.log2(place + 2)
        for place, g in enumerate(sorted(known.values(), reverse=True)[:cut])
    )
    hits, precisions = 0, []
    for place, g in enumerate(judged):
        if g == 3:
            hits += 1
            precisions.append(hits / (place + 1))
    relevant = sum(g == 3 for g in known.values())
    return {
        f"P@{cut}": sum(g == 3 for g in first) / len(first) if first else math.nan,
        f"nDCG@{cut}": dcg / ideal if ideal else math.nan,
        f"judged@{cut}": sum(image in known for image in listed[:cut]) / len(listed[:cut]),
        "AP": sum(precisions) / relevant if relevant else math.nan,
    }


one_query = st.tuples(
    st.dictionaries(
        st.sampled_from(IMAGES), st.sampled_from([0.0, 0.25, 0.5]), min_size=1
    ),  # few scores: many ties
    st.dictionaries(st.sampled_from(IMAGES), st.integers(0, 3), min_size=1),
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), one_query, min_size=1), st.integers(1, 6)
)
def test_retrieval_metrics_are_their_definitions_ties_and_unjudged_included(queries, cut):
    run = {query: scores for query, (scores, _) in queries.items()}
    grades = {query: known for query, (_, known) in queries.items()}
    table = metrics.retrieval_metrics(
        pd.DataFrame(
            [(q, i, s) for q in run for i, s in run[q].items()], columns=["query", "image", "score"]
        ),
        pd.DataFrame(
            [(q, i, g) for q in grades for i, g in grades[q].items()],
            columns=["query", "image", "grade"],
        ),
        k=[cut],
    ).set_index("query")
    assert set(table.index) == set(grades)
    for query in queries:
        for name, value in by_hand(run, grades, query, cut).items():
            assert table.loc[query, name] == pytest.approx(value, nan_ok=True), (query, name)


def test_the_ideal_is_over_all_judged_and_not_over_the_retrieved():
    grades = pd.DataFrame({"query": "q", "image": ["a", "b", "c"], "grade": [3, 3, 1]})
    run = pd.DataFrame({"query": ["q"], "image": ["c"], "score": [1.0]})
    found = metrics.retrieval_metrics(run, grades, [1]).iloc[0]
    assert found["nDCG@1"] == pytest.approx(1 / 7)
    assert found["AP"] == 0


def test_a_query_without_any_result_counts_as_nothing_found():
    grades = pd.DataFrame({"query": ["q", "r"], "image": ["a", "a"], "grade": [3, 3]})
    run = pd.DataFrame({"query": ["q"], "image": ["a"], "score": [1.0]})
    table = metrics.retrieval_metrics(run, grades, [1]).set_index("query")
    assert table.loc["r", "AP"] == 0 and table.loc["r", "nDCG@1"] == 0 and table.loc["q", "AP"] == 1


@pytest.mark.parametrize("broken", ["run twice", "grades twice", "nan", "grade"])
def test_retrieval_metrics_refuse_what_has_no_one_answer(broken):
    run = pd.DataFrame({"query": "q", "image": ["a", "b"], "score": [1.0, 0.5]})
    grades = pd.DataFrame({"query": "q", "image": ["a", "b"], "grade": [3, 0]})
    if broken == "run twice":
        run = pd.concat([run, run])
    if broken == "grades twice":
        grades = pd.concat([grades, grades])
    if broken == "nan":
        run.loc[0, "score"] = math.nan
    if broken == "grade":
        grades.loc[0, "grade"] = 7
    with pytest.raises(ValueError, match="must be|must have|must name"):
        metrics.retrieval_metrics(run, grades, [1])


def random_pairs(seed=0, n=400):
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 4, n)
    return grades, grades + rng.normal(0, 1.5, n), rng


def test_pair_metrics_agree_with_sklearn_and_with_counting():
    grades, score, _ = random_pairs()
    p, same = 1 / (1 + np.exp(2 - score)), grades > 0
    found = metrics.pair_metrics(grades, score, p, 0.5, same)
    similar, said = grades == 3, p >= 0.5
    assert found["n"] == 400 and found["n_similar"] == similar.sum()
    assert found["roc_auc"] == pytest.approx(roc_auc_score(similar, score))
    assert found["same_class_ap"] == pytest.approx(
        average_precision_score(similar[same], score[same])
    )
    hits = (similar & said).sum()
    assert found["precision"] == pytest.approx(hits / said.sum())
    assert found["recall"] == pytest.approx(hits / similar.sum())
    assert found["f1"] == pytest.approx(2 * hits / (said.sum() + similar.sum()))
    by_bin = 0
    for low in range(10):
        inside = (p >= low / 10) & (p < (low + 1) / 10)
        if inside.any():
            by_bin += inside.mean() * abs(p[inside].mean() - similar[inside].mean())
    assert found["ece"] == pytest.approx(by_bin)


def test_pair_metrics_of_one_class_are_nan_and_bad_input_is_refused():
    found = metrics.pair_metrics(np.zeros(3), np.arange(3))
    assert math.isnan(found["roc_auc"]) and math.isnan(found["ap"])
    assert math.isnan(metrics.pair_metrics(np.zeros(0), np.zeros(0))["roc_auc"])
    with pytest.raises(ValueError, match="grades must be 0, 1, 2 or 3, got 7"):
        metrics.pair_metrics(np.array([7]), np.zeros(1))
    with pytest.raises(ValueError, match="one value for each of the 2 grades, got 3"):
        metrics.pair_metrics(np.array([0, 3]), np.zeros(3))


def test_trivial_baselines_give_the_published_study_its_numbers():
    grades = np.array([3] * 26 + [1] * 274)  # its blind test: 300 pairs, 26 of them similar
    table = metrics.trivial_baselines(grades, np.ones(300, bool))
    assert table.loc["always-yes", "f1"] == pytest.approx(0.1595, abs=1e-4)
    assert table.loc["always-no", ["accuracy", "f1"]].tolist() == pytest.approx([274 / 300, 0])
    assert table.loc["same-class"].equals(table.loc["always-yes"])


def graph(seed, n=120, n_images=40, n_groups=30, ties=True):
    """Pairs of distinct images, each image in one group; few scores, so that many are equal."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n_images)
    a, b = rng.integers(0, n_images, (2, 3 * n))
    different = a != b
    pairs = pd.DataFrame(
        {
            "image1": [f"i{k:02d}" for k in np.minimum(a, b)[different]],
            "image2": [f"i{k:02d}" for k in np.maximum(a, b)[different]],
        }
    )
    pairs = pairs.drop_duplicates(ignore_index=True).head(n)
    rows = pairs.apply(lambda column: column.str[1:].astype(int))
    pairs = pairs.assign(
        similarity=rng.choice(4, len(pairs), p=[0.4, 0.2, 0.1, 0.3]).astype(float),
        group1=group[rows.image1],
        group2=group[rows.image2],
    )
    score, rival = (
        pairs.similarity.to_numpy() + rng.normal(0, spread, len(pairs)) for spread in (1.0, 3.0)
    )
    return (pairs, *((score.round(), rival.round()) if ties else (score, rival)))


def weighted_difference(pairs, score, rival, weight):
    similar = pairs.similarity == 3
    return np.subtract(
        *(average_precision_score(similar, s, sample_weight=weight) for s in (score, rival))
    )


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.booleans())
def test_ap_gain_is_the_difference_of_two_average_precisions(seed, ties):
    pairs, score, rival = graph(seed, ties=ties)
    before = pairs.copy()
    found = metrics.ap_gain(pairs, score, rival)
    pd.testing.assert_frame_equal(pairs, before)
    assert found["score"] == pytest.approx(average_precision_score(pairs.similarity == 3, score))
    assert found["difference"] == pytest.approx(weighted_difference(pairs, score, rival, None))
    assert found["low"] < found["difference"] < found["high"]
    other = metrics.ap_gain(pairs, rival, score)
    assert [other["low"], other["high"]] == pytest.approx([-found["high"], -found["low"]])
    shuffled = np.random.default_rng(seed).permutation(len(pairs))
    assert metrics.ap_gain(pairs.iloc[shuffled], score[shuffled], rival[shuffled]) == pytest.approx(
        found
    )


@settings(max_examples=4)
@given(st.integers(0, 10_000), st.booleans())
def test_the_interval_is_made_of_the_derivatives_by_the_pairs_weights(seed, ties):
    """The plain formula: products of the influences of every two pairs that share a group, the
    derivatives taken by nudging one pair's weight."""
    pairs, score, rival = graph(seed, n=50, ties=ties)
    step, influence = 1e-5, []
    for k in range(len(pairs)):
        up, down = (1 + step * sign * (np.arange(len(pairs)) == k) for sign in (1, -1))
        influence.append(
            (
                weighted_difference(pairs, score, rival, up)
                - weighted_difference(pairs, score, rival, down)
            )
            / (2 * step)
        )
    of = [{a, b} for a, b in zip(pairs.group1, pairs.group2)]
    variance = sum(
        x * y for x, one in zip(influence, of) for y, two in zip(influence, of) if one & two
    )
    found = metrics.ap_gain(pairs, score, rival)
    if (
        variance > 1e-6
        and min((pairs.similarity == 3).sum(), (pairs.similarity < 3).sum()) >= metrics.ENOUGH
    ):
        assert (found["high"] - found["low"]) / 2 == pytest.approx(1.96 * variance**0.5, rel=1e-3)


def test_of_few_pairs_there_is_no_interval_and_of_one_kind_nothing():
    pairs, score, rival = graph(0)
    for n_similar, n_other, known in ((9, 50, False), (50, 9, False), (10, 10, True)):
        n = n_similar + n_other
        some = pairs.head(n).assign(similarity=np.repeat([3.0, 0.0], [n_similar, n_other]))
        found = metrics.ap_gain(some, score[:n], rival[:n])
        assert math.isfinite(found["difference"])
        assert math.isfinite(found["low"]) == math.isfinite(found["high"]) == known
    for grade in (0.0, 3.0):
        found = metrics.ap_gain(pairs.assign(similarity=grade), score, rival)
        assert set(found) == {"score", "difference", "low", "high"} and all(
            map(math.isnan, found.values())
        )
    with pytest.raises(ValueError, match="got nan; drop pairs that were not asked yet"):
        metrics.ap_gain(pairs.assign(similarity=np.nan), score, rival)


def test_a_score_gains_nothing_over_itself():
    pairs, score, _ = graph(0)
    assert metrics.ap_gain(pairs, score, score) == {
        "score": pytest.approx(average_precision_score(pairs.similarity == 3, score)),
        "difference": 0,
        "low": 0,
        "high": 0,
    }


@pytest.fixture(scope="module")
def population():
    """What studies drawn from a population say: the gain, its interval, and the gain over the whole
    population.

    Images have a place, and a quality of their own that both scores see; a study draws images, and
    pairs among them."""
    rng = np.random.default_rng(0)
    n = 1_500
    place, own = rng.normal(size=(n, 3)), rng.normal(0, 0.7, (n, 2))
    i, j = np.triu_indices(n, 1)
    near = -np.linalg.norm(place[i] - place[j], axis=1)
    similar = near + rng.normal(0, 0.3, len(i)) > -0.9
    scores = [
        near + own[i, k] * own[j, k] + rng.normal(0, spread, len(i))
        for k, spread in enumerate((0.4, 0.7))
    ]
    truth = np.subtract(*(average_precision_score(similar, score) for score in scores))
    row = np.zeros((n, n), int)
    row[i, j] = np.arange(len(i))
    studies = []
    for _ in range(400):
        drawn = np.sort(rng.choice(n, 120, replace=False))
        a, b = np.triu_indices(120, 1)
        some = rng.choice(len(a), 900, replace=False)
        a, b = drawn[a[some]], drawn[b[some]]
        rows = row[a, b]
        pairs = pd.DataFrame(
            {"similarity": np.where(similar[rows], 3.0, 0.0), "group1": a, "group2": b}
        )
        studies.append(metrics.ap_gain(pairs, scores[0][rows], scores[1][rows]))
    return truth, pd.DataFrame(studies)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(population):
    truth, studies = population
    assert 0.88 < ((studies.low <= truth) & (truth <= studies.high)).mean() < 0.995
    assert truth > 0.05


def test_the_error_is_about_the_spread_of_the_estimates(population):
    _, studies = population
    error = ((studies.high - studies.low) / 2 / 1.96).mean()
    assert 0.8 < error / studies.difference.std() < 1.25


# ---- within a query ----


def within_by_hand(pairs, score, k):
    """Each query's nDCG@k and AP by plain loops."""
    found, table = {}, list(zip(pairs.image1, pairs.image2, pairs.similarity, score))
    for query in sorted({*pairs.image1, *pairs.image2}):
        judged = {b if a == query else a: (g, s) for a, b, g, s in table if query in (a, b)}
        if len({g for g, _ in judged.values()}) < 2:
            continue
        run = {query: {image: s for image, (_, s) in judged.items()}}
        grades = {query: {image: int(g) for image, (g, _) in judged.items()}}
        found[query] = by_hand(run, grades, query, k)
    return found


@settings(max_examples=20)
@given(n=st.integers(1, 300), p=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_what_chance_does_to_a_perfect_model_is_the_binomial_distribution(n, p, seed):
    found = metrics.calibration_by_chance(np.full(n, p), n=4000, seed=seed)
    outcomes = np.arange(n + 1)
    off, often = np.abs(outcomes / n - p), binom.pmf(outcomes, n, p)
    spread = np.sqrt((off**2 * often).sum() - (off * often).sum() ** 2)
    assert found.ece == pytest.approx((off * often).sum(), abs=5 * spread / 4000**0.5 + 1e-9)
    assert often[off <= found.ece_high + 1e-9].sum() > 0.93
    [place] = np.flatnonzero(~np.isnan(found.low))
    assert place == int(p * 10) and np.array_equal(np.isnan(found.low), np.isnan(found.high))
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        near = binom.ppf([max(0, share - 0.012), min(1, share + 0.012)], n, p) / n
        assert near[0] - 1e-9 <= end[place] <= near[1] + 1e-9


def test_chance_of_no_pair_and_of_sure_ones_is_nothing():
    assert metrics.calibration_by_chance(np.zeros(0)).ece == 0
    sure = metrics.calibration_by_chance(np.array([0.0, 0.0, 1.0]))
    assert sure.ece == sure.ece_high == 0 and sure.low[0] == 0 and sure.high[9] == 1


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_query_gain_is_what_plain_loops_give(seed, k):
    pairs, score, rival = graph(seed, n=90)
    before = pairs.copy()
    table = metrics.query_gain(pairs, score, rival, k).set_index("measure")
    pd.testing.assert_frame_equal(pairs, before)
    one, two = (within_by_hand(pairs, s, k) for s in (score, rival))
    group = {**dict(zip(pairs.image1, pairs.group1)), **dict(zip(pairs.image2, pairs.group2))}
    connected = {frozenset(edge) for edge in zip(pairs.group1, pairs.group2)}
    assert list(table.index) == [f"nDCG@{k}", "AP"]
    for measure, row in table.iterrows():
        gains = {
            query: one[query][measure] - two[query][measure]
            for query in one
            if not math.isnan(one[query][measure])
        }
        values = np.array(list(gains.values()))
        assert row.queries == len(values)
        assert (
            row.difference == pytest.approx(values.mean()) == pytest.approx(row.score - row.rival)
        )
        centred = {query: gain - values.mean() for query, gain in gains.items()}
        own = sum(
            x * y for q, x in centred.items() for r, y in centred.items() if group[q] == group[r]
        )
        both = sum(
            x * y
            for q, x in centred.items()
            for r, y in centred.items()
            if group[q] == group[r] or frozenset((group[q], group[r])) in connected
        )
        error = max(own, both) ** 0.5 / len(values)
        assert [row.low, row.high] == pytest.approx(
            [row.difference - 1.96 * error, row.difference + 1.96 * error]
        )


def test_a_query_of_one_grade_says_nothing_and_few_queries_have_no_interval():
    pairs = pd.DataFrame(
        {
            "image1": ["a", "a", "b"],
            "image2": ["b", "c", "c"],
            "similarity": [3.0, 0.0, 0.0],
            "group1": [0, 0, 1],
            "group2": [1, 2, 2],
        }
    )
    table = metrics.query_gain(
        pairs, np.array([0.9, 0.1, 0.2]), np.array([0.1, 0.9, 0.2])
    ).set_index("measure")
    assert table.queries.tolist() == [2, 2]  # of c all is grade 0
    assert table.score.tolist() == [1, 1] and table.rival["AP"] == pytest.approx(0.5)
    assert table[["low", "high"]].isna().all(axis=None)
    alike = metrics.query_gain(pairs.assign(similarity=1.0), np.zeros(3), np.ones(3))
    assert alike.queries.tolist() == [0, 0] and alike.difference.isna().all()
    assert metrics.query_gain(pairs[:0], np.zeros(0), np.zeros(0)).queries.tolist() == [0, 0]


def test_the_order_among_other_images_pairs_is_not_a_querys():
    """A score may be shifted for one query without any change of what its user sees."""
    pairs, score, _ = graph(3, n=60)
    star = pairs.assign(
        image1="q",
        image2=[f"r{k}" for k in range(len(pairs))],
        group1=99,
        group2=np.arange(len(pairs)),
    )
    table = metrics.query_gain(star, score, 5 * score - 7)
    assert table.difference.tolist() == [0, 0] and table.queries.tolist() == [1, 1]


def test_recall_counts_either_of_two_tied_neighbours():
    truth = np.array([[0.1, 0.2, 0.2]])
    assert metrics.recall_at_k(np.array([[0.2, 0.1]]), truth, 2) == 1
    assert metrics.recall_at_k(np.array([[0.1, 0.3]]), truth, 2) == 0.5
    assert metrics.recall_at_k(np.array([[0.1, np.nan]]), truth, 2) == 0.5
    with pytest.raises(ValueError, match="at least k = 4"):
        metrics.recall_at_k(truth, truth, 4)


def test_class_confusion_is_the_share_of_each_class_among_the_results():
    table = metrics.class_confusion(
        ["farm", "modern"], [["farm", "farm", "modern"], ["modern"] * 3]
    )
    assert table.loc["farm", "modern"] == pytest.approx(1 / 3)
    assert table.loc["modern", "modern"] == 1 and table.loc["modern", "farm"] == 0


def test_a_bootstrap_spreads_as_its_groups_do():
    values, groups = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    # two groups: either may be drawn twice
    assert metrics.bootstrap(values, groups) == (0.5, 0.0, 1.0)
    mean, low, high = metrics.bootstrap(values, np.arange(100))
    assert mean == 0.5 and 0.35 < low < 0.45 < 0.55 < high < 0.65
    # of one group nothing is known
    assert np.isnan(metrics.bootstrap(values[:50], groups[:50])[1:]).all()


def test_an_interval_over_splits_pays_for_what_they_share():
    gains = np.random.default_rng(0).normal(0.154, 0.06, 20)
    mean, low, high = metrics.over_splits(gains, 0.4)
    # Nadeau & Bengio's (1/J + n_test/n_train) of the variance; Student's t of 19 degrees is 2.093
    reach = 2.093024 * np.sqrt((1 / 20 + 0.4 / 0.6) * np.var(gains, ddof=1))
    assert (mean, low, high) == pytest.approx((gains.mean(), mean - reach, mean + reach))
    plain = metrics.bootstrap(gains)
    assert high - low > 3 * (plain[2] - plain[1])
    # more splits of the same data do not make it as narrow as one likes
    many = metrics.over_splits(np.tile(gains, 50), 0.4)
    assert many[2] - many[1] > 0.8 * (high - low)
    assert np.isnan(metrics.over_splits(gains[:1], 0.4)[1:]).all()
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        metrics.over_splits(gains, 1)


def test_an_interval_over_splits_covers_where_a_bootstrap_does_not():
    # a truth of 0; each split's difference holds what all splits share, and its own
    rng, caught = np.random.default_rng(0), {"over_splits": 0, "bootstrap": 0}
    for _ in range(300):
        gains = 0.5**0.5 * rng.normal() + 0.5**0.5 * rng.normal(size=10)
        for name, found in (
            ("over_splits", metrics.over_splits(gains, 0.5)),
            ("bootstrap", metrics.bootstrap(gains, n=200)),
        ):
            caught[name] += found[1] <= 0 <= found[2]
    assert caught["over_splits"] > 0.9 * 300 > 0.6 * 300 > caught["bootstrap"]
