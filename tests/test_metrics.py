"""metrics: every number against a recomputation in plain loops, or against scikit-learn."""

import math
import shutil

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from imgsearch_utils import metrics

IMAGES = [f"i{n}" for n in range(8)]


def by_hand(run, grades, query, cut):
    """One query's measures by loops over the definition: `run` and `grades` map image -> score, grade."""
    listed = sorted(run[query], key=lambda image: (-run[query][image], image))
    known = grades[query]
    judged = [known[image] for image in listed if image in known]
    first = judged[:cut]
    dcg = sum((2**g - 1) / math.log2(place + 2) for place, g in enumerate(first))
    ideal = sum((2**g - 1) / math.log2(place + 2) for place, g in enumerate(sorted(known.values(), reverse=True)[:cut]))
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
    st.dictionaries(st.sampled_from(IMAGES), st.sampled_from([0.0, 0.25, 0.5]), min_size=1),  # few scores: many ties
    st.dictionaries(st.sampled_from(IMAGES), st.integers(0, 3), min_size=1),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), one_query, min_size=1), st.integers(1, 6))
def test_retrieval_metrics_are_their_definitions_ties_and_unjudged_included(queries, cut):
    run = {query: scores for query, (scores, _) in queries.items()}
    grades = {query: known for query, (_, known) in queries.items()}
    table = metrics.retrieval_metrics(
        pd.DataFrame([(q, i, s) for q in run for i, s in run[q].items()], columns=["query", "image", "score"]),
        pd.DataFrame([(q, i, g) for q in grades for i, g in grades[q].items()], columns=["query", "image", "grade"]),
        k=[cut],
    ).set_index("query")
    assert set(table.index) == set(grades)
    for query in queries:
        for name, value in by_hand(run, grades, query, cut).items():
            assert table.loc[query, name] == pytest.approx(value, nan_ok=True), (query, name)


@pytest.mark.skipif(not shutil.which("perl"), reason="ir-measures computes its own exp-log2 by a Perl script")
def test_ndcg_is_what_ir_measures_calls_exp_log2():
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame([(str(q), f"d{i}") for q in range(1, 30) for i in range(12)], columns=["query", "image"])
    grades = pairs.assign(grade=rng.integers(0, 4, len(pairs)))
    run = pairs.assign(score=rng.integers(0, 5, len(pairs)) / 4)  # few scores: many ties
    found = metrics.retrieval_metrics(run, grades, [5]).set_index("query")["nDCG@5"]
    ordered = run.sort_values(["query", "score", "image"], ascending=[True, False, True])
    ordered["score"] = -ordered.groupby("query").cumcount().astype(float)  # ties by name, as ours
    names = {"query": "query_id", "image": "doc_id", "grade": "relevance"}
    measure = ir_measures.parse_measure("nDCG(dcg='exp-log2')@5")
    theirs = ir_measures.iter_calc([measure], grades.rename(columns=names), ordered.rename(columns=names))
    assert {value.query_id: value.value for value in theirs} == pytest.approx(found.to_dict(), abs=1e-5)


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
    assert found["same_class_ap"] == pytest.approx(average_precision_score(similar[same], score[same]))
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


def gain(metric, grades, score, rival, group1, group2, **options):
    pairs = pd.DataFrame({"similarity": grades, "group1": group1, "group2": group2})
    return metrics.bootstrap_gain(metric, pairs, score, rival, **options)


def test_bootstrap_finds_a_real_difference_and_no_difference_and_repeats():
    grades, score, rng = random_pairs()
    worse, groups = rng.normal(size=400), rng.integers(0, 60, (2, 400))
    better = gain(roc_auc_score, grades, score, worse, *groups, n=200)
    assert 0 < better["low"] < better["mean"] < better["high"] and better["share_above_zero"] == 1
    assert better == gain(roc_auc_score, grades, score, worse, *groups, n=200)
    none = gain(average_precision_score, grades, score, score, *groups, n=50)
    assert none["low"] == none["high"] == 0
    assert math.isnan(gain(roc_auc_score, np.zeros(400), score, worse, *groups)["mean"])


def test_bootstrap_does_not_take_repeated_pairs_of_the_same_images_for_more_evidence():
    grades, score, rng = random_pairs()
    columns = [grades, score, rng.normal(size=400), *rng.integers(0, 60, (2, 400))]
    once = gain(roc_auc_score, *columns, n=100)
    five_times = gain(roc_auc_score, *[np.tile(column, 5) for column in columns], n=100)
    assert five_times == pytest.approx(once)


def test_recall_counts_either_of_two_tied_neighbours():
    truth = np.array([[0.1, 0.2, 0.2]])
    assert metrics.recall_at_k(np.array([[0.2, 0.1]]), truth, 2) == 1
    assert metrics.recall_at_k(np.array([[0.1, 0.3]]), truth, 2) == 0.5
    assert metrics.recall_at_k(np.array([[0.1, np.nan]]), truth, 2) == 0.5
    with pytest.raises(ValueError, match="at least k = 4"):
        metrics.recall_at_k(truth, truth, 4)


def test_class_confusion_is_the_share_of_each_class_among_the_results():
    table = metrics.class_confusion(["farm", "modern"], [["farm", "farm", "modern"], ["modern"] * 3])
    assert table.loc["farm", "modern"] == pytest.approx(1 / 3)
    assert table.loc["modern", "modern"] == 1 and table.loc["modern", "farm"] == 0


def test_a_bootstrap_spreads_as_its_groups_do():
    values, groups = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    assert metrics.bootstrap(values, groups) == (0.5, 0.0, 1.0)  # two groups: either may be drawn twice
    mean, low, high = metrics.bootstrap(values, np.arange(100))
    assert mean == 0.5 and 0.35 < low < 0.45 < 0.55 < high < 0.65
    assert np.isnan(metrics.bootstrap(values[:50], groups[:50])[1:]).all()  # of one group nothing is known
