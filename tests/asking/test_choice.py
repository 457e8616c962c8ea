"""Every strategy keeps the contract: allowed pairs only, capped, audited, the same by seed, better
than a guess.
"""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.asking import STRATEGIES, Pool, choice, first_strategy, usual_strategy
from imgsearch_utils.asking import pool as pool_room
from imgsearch_utils.asking.strategies import UNCAPPED, team_draft
from imgsearch_utils.grades.pairs import list_numbers
from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.metrics.geometry import normalised

CALIBRATION = Calibration((8.0, 7.0, 7.0), (1.0, 0.0, -2.0), 0.3)


def choose_pairs(strategy, embeddings, calibration, labelled, images, column, budget, cap, seed):
    """The strategy's choice among the train images; `column` is the class, None for a study without
    classes.
    """
    table = images[["image", *([column] if column else []), "group", "side"]]
    pool = Pool.of(Images(table, embeddings).train, Model(calibration=calibration), labelled)
    return choice.choose_pairs(pool, strategy, budget, seed, cap)


def automatic_zeros(images, column, *arguments, **options):
    return choice.automatic_zeros(
        Images(images[["image", column, "group", "side"]], None), *arguments, **options
    )


def make_world(seed, n=60, classes=3):
    """Images in shuffled order, some in near-duplicate groups, a third of them not for training;
    some labels.
    """
    rng = np.random.default_rng(seed)
    names = np.array([f"{k:03d}.jpg" for k in rng.permutation(n)])
    images = pd.DataFrame(
        {
            "image": names,
            "kind": rng.choice(list("xyz")[:classes], n),
            "group": rng.integers(0, max(1, n // 2), n),
            "side": rng.choice(["train", "train", "dev", "test"], n),
        }
    )
    embeddings = Embeddings(sorted(names.tolist()), rng.normal(size=(n, 8)).astype(np.float32), {})
    a, b = rng.choice(names, (2, n // 2 * 2))
    labelled = pd.DataFrame({"image1": a, "image2": b, "similarity": 1.0})
    return embeddings, labelled[labelled.image1 != labelled.image2], images


def allowed_pairs(images, labelled, class_column):
    known = set(map(frozenset, zip(labelled.image1, labelled.image2)))
    rows = [row for row in images.itertuples() if row.side == "train"]
    return {
        (min(a.image, b.image), max(a.image, b.image))
        for k, a in enumerate(rows)
        for b in rows[:k]
        if (class_column is None or a.kind == b.kind)
        and a.group != b.group
        and frozenset((a.image, b.image)) not in known
    }


@settings(max_examples=15)
@given(
    st.integers(0, 10_000), st.sampled_from([None, "kind"]), st.integers(1, 40), st.integers(1, 5)
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_the_contract(strategy, seed, class_column, budget, cap):
    embeddings, labelled, images = make_world(seed, n=10 + seed % 60)
    before = images.copy(), labelled.copy()
    arguments = (
        strategy,
        embeddings,
        CALIBRATION,
        labelled,
        images,
        class_column,
        budget,
        cap,
        seed,
    )
    chosen = choose_pairs(*arguments)
    pairs = list(zip(chosen.image1, chosen.image2))
    allowed = allowed_pairs(images, labelled, class_column)
    assert len(set(pairs)) == len(pairs) <= budget and set(pairs) <= allowed
    used = Counter(np.concatenate([chosen.image1, chosen.image2]).tolist())
    cap = len(images) if strategy in UNCAPPED else cap
    assert max(used.values(), default=0) <= cap
    if len(pairs) < budget:  # then no allowed pair is left that respects the cap
        assert not [
            pair for pair in allowed - set(pairs) if max(used[pair[0]], used[pair[1]]) < cap
        ]
    else:
        assert chosen.audit.sum() == round(0.1 * budget)
    assert (chosen.strategy == np.where(chosen.audit, "random", strategy)).all()
    pd.testing.assert_frame_equal(chosen, choose_pairs(*arguments))
    pd.testing.assert_frame_equal(images, before[0])
    pd.testing.assert_frame_equal(labelled, before[1])


@pytest.mark.parametrize("sample", [30, 100_000])
@pytest.mark.parametrize("block", [(7, 5), (512, 1024)])
def test_uncertainty_takes_the_pairs_nearest_to_the_threshold(monkeypatch, block, sample):
    monkeypatch.setattr(pool_room, "BLOCK", block)
    monkeypatch.setattr(pool_room, "SAMPLE", sample)
    embeddings, labelled, images = make_world(1)
    monkeypatch.setattr(choice, "AUDITED", 0.0)
    chosen = choose_pairs(
        "uncertainty", embeddings, CALIBRATION, labelled, images, "kind", 20, 99, 0
    )
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    vector = dict(zip(embeddings.names, unit))
    target = CALIBRATION.cosine_at_threshold()
    distance = {
        (a, b): abs(vector[a] @ vector[b] - target)
        for a, b in allowed_pairs(images, labelled, "kind")
    }
    assert set(zip(chosen.image1, chosen.image2)) == set(sorted(distance, key=distance.get)[:20])
    assert not chosen.audit.any()
    np.testing.assert_allclose(CALIBRATION.predict(chosen.score)[:, 3], chosen.p_similar)


@pytest.mark.parametrize("sizes", [(1800,), (1500, 120, 100)])
def test_of_classes_too_large_for_all_their_pairs_nearly_the_same_is_chosen(monkeypatch, sizes):
    monkeypatch.setattr(pool_room, "SAMPLE", 20_000)
    rng = np.random.default_rng(11)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    vectors = rng.normal(size=(30, 16))[rng.integers(0, 30, len(kinds))] + 0.7 * rng.normal(
        size=(len(kinds), 16)
    )
    names = [f"{number:04d}.jpg" for number in rng.permutation(len(kinds))]
    table = pd.DataFrame(
        {"image": names, "kind": kinds.astype(str), "group": np.arange(len(kinds)), "side": "train"}
    )
    images, model = (
        Images(table, Embeddings(names, vectors.astype(np.float32), {})),
        Model(calibration=CALIBRATION),
    )
    every, some = (
        choice.choose_pairs(Pool.of(images, model, many=many), "uncertainty", 200, 0, 20)
        for many in (9999, 400)
    )
    assert len(some) == 200 and not some.duplicated(["image1", "image2"]).any()
    pd.testing.assert_frame_equal(every[every.audit], some[some.audit])
    close = pd.DataFrame({"every": every.score, "some": some.score})[~every.audit]
    wanted = CALIBRATION.cosine_at_threshold()
    assert abs(close.some - wanted).mean() < abs(close.every - wanted).mean() + 0.001


class Part:
    """A head that keeps some of the dimensions."""

    def __init__(self, rows):
        self.rows = rows

    def embed(self, vectors):
        return normalised(vectors[:, self.rows])


def test_lists_hold_the_first_half_dozen_of_both_models_for_one_query_after_the_other(monkeypatch):
    monkeypatch.setattr(choice, "AUDITED", 0.0)
    embeddings, labelled, images = make_world(3, n=60)
    images = Images(images[["image", "group", "side"]], embeddings).train
    parts = {"place_before": slice(0, 4), "place_learnt": slice(4, 8)}
    before, learnt = (Model.with_head(Part(rows)) for rows in parts.values())
    pool = Pool.of(images, learnt, labelled, before)
    chosen = choice.choose_pairs(pool, "lists", 24, 0)
    allowed = allowed_pairs(images.table, labelled, None)
    assert len(chosen) == 24
    other = chosen.image1.where(chosen.image1 != chosen["query"], chosen.image2)
    assert (other != chosen["query"]).all()
    # a result that stands in an earlier list is not asked again, and a third list fills its place
    lists = chosen.assign(other=other).groupby("query").filter(lambda part: len(part) > 9)
    assert lists["query"].nunique() == 2
    for query, asked in lists.groupby("query"):
        results = [pair[0] if pair[1] == query else pair[1] for pair in allowed if query in pair]
        for column, rows in parts.items():
            unit = dict(zip(embeddings.names, normalised(embeddings.vectors[:, rows])))
            order = sorted(results, key=lambda name: -unit[query] @ unit[name])
            places = dict(zip(asked.other, asked[column]))
            assert all(order[int(place) - 1] == name for name, place in places.items())
            assert len(set(order[:6]) - set(places)) <= 1


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(30, 80), st.data())
def test_lists_drafted_anew_leave_all_others_in_their_places(seed, budget, data):
    embeddings, labelled, images = make_world(seed, n=60)
    images = Images(images[["image", "group", "side"]], embeddings).train
    pairs = choice.choose_pairs(Pool.of(images, Model(), labelled), "lists", budget, seed)
    number = list_numbers(pairs)
    assert np.array_equal(number == -1, pairs["query"] == "")
    chosen = data.draw(st.sets(st.integers(0, int(number.max()))))
    replaced = np.where(np.isin(number, list(chosen)), number, -1)
    stay = replaced < 0
    learnt = Model.with_head(Part(slice(4, 8)))
    pool = Pool.of(images, learnt, pd.concat([labelled, pairs[stay]]), Model())
    drafted = choice.redrafted(pool, pairs, replaced, seed)
    pd.testing.assert_frame_equal(drafted.loc[stay, pairs.columns], pairs[stay])
    assert len(drafted) == len(pairs)
    assert not drafted.duplicated(["image1", "image2"]).any()
    assert np.array_equal(list_numbers(drafted), number)
    allowed = allowed_pairs(images.table, labelled, None)
    assert set(zip(drafted.image1, drafted.image2)) <= allowed
    for one in chosen:
        part = drafted[number == one]
        if part.get("place_learnt", pd.Series([np.nan])).notna().all():
            assert part["query"].nunique() == 1
            both = part.image1.eq(part["query"]) | part.image2.eq(part["query"])
            assert both.all()
            assert np.minimum(part.place_before, part.place_learnt).min() >= 1


def test_before_anything_is_learnt_lists_compare_nothing():
    embeddings, labelled, images = make_world(3, n=60)
    images = Images(images[["image", "group", "side"]], embeddings).train
    chosen = choice.choose_pairs(Pool.of(images, Model(), labelled), "lists", 24, 0)
    assert "query" in chosen and not {"place_before", "place_learnt"} & set(chosen)


@given(st.permutations(range(9)), st.permutations(range(9)), st.integers(0, 12), st.integers(0, 99))
def test_a_draft_takes_turns_and_nothing_twice(one, two, size, seed):
    drafted = team_draft(np.array(one), np.array(two), size, np.random.default_rng(seed)).tolist()
    assert len(drafted) == len(set(drafted)) == min(size, 9)
    half = size // 2
    assert set(one[:half]) | set(two[:half]) <= set(drafted)
    assert set(drafted) <= set(one[: size + 1]) | set(two[: size + 1])


def test_what_chooses_where_a_study_names_nothing():
    embeddings, _, images = make_world(0)
    known = Images(images[["image", "kind", "group", "side"]], embeddings)
    hidden = Images(images[["image", "group", "side"]], embeddings)
    assert (first_strategy(known), usual_strategy(known)) == ("random", "random")
    assert (first_strategy(hidden), usual_strategy(hidden)) == ("stratified", "lists")


def test_random_is_uniform_over_the_allowed_pairs():
    embeddings, labelled, images = make_world(5, n=24, classes=2)
    allowed = allowed_pairs(images, labelled, "kind")
    counts = Counter()
    for seed in range(200):
        chosen = choose_pairs("random", embeddings, None, labelled, images, "kind", 5, 99, seed)
        counts.update(zip(chosen.image1, chosen.image2))
    expected = 200 * 5 / len(allowed)
    assert set(counts) == allowed
    assert sum((counts[pair] - expected) ** 2 / expected for pair in allowed) < 2 * len(allowed)


def test_an_unknown_strategy_and_one_that_is_too_early_are_refused():
    embeddings, labelled, images = make_world(0)
    rest = (labelled, images, "kind", 5, 2, 0)
    with pytest.raises(ValueError, match="Did you mean uncertainty?"):
        choose_pairs("uncertainly", embeddings, CALIBRATION, *rest)
    with pytest.raises(
        ValueError, match="needs a calibrated head; start with random or stratified"
    ):
        choose_pairs("uncertainty", embeddings, None, *rest)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 50))
def test_automatic_zeros_cross_classes_and_nothing_else(seed, n):
    _, labelled, images = make_world(seed, n=4 + seed % 40)
    zeros = automatic_zeros(images, "kind", n, seed, exclude=labelled)
    pd.testing.assert_frame_equal(zeros, automatic_zeros(images, "kind", n, seed, exclude=labelled))
    row = {image.image: image for image in images.itertuples()}
    known = set(map(frozenset, zip(labelled.image1, labelled.image2)))

    def fits(a, b):
        a, b = row[a], row[b]
        return (
            a.kind != b.kind
            and a.side == b.side
            and a.group != b.group
            and {a.image, b.image} not in known
        )

    pairs = list(zip(zeros.image1, zeros.image2))
    possible = {(a, b) for a in row for b in row if a < b and fits(a, b)}
    assert set(pairs) <= possible and len(set(pairs)) == len(pairs) == min(n, len(possible))
    assert (zeros.similarity == 0).all()


def chosen_by(strategy, budget, seed=1, n=60):
    """A strategy's pairs without audits and caps, all allowed pairs, and each image's unit
    vector.
    """
    embeddings, labelled, images = make_world(seed, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "AUDITED", 0.0)
        chosen = choose_pairs(
            strategy, embeddings, CALIBRATION, labelled, images, "kind", budget, 999, 0
        )
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    allowed = sorted(allowed_pairs(images, labelled, "kind"))
    return (
        list(zip(chosen.image1, chosen.image2)),
        allowed,
        dict(zip(embeddings.names, unit)),
        labelled,
        images,
    )


def test_core_set_takes_the_farthest_first():
    pairs, allowed, unit, labelled, images = chosen_by("core_set", 12)
    row = images.set_index("image")

    def feature(a, b):
        return np.concatenate([np.abs(unit[a] - unit[b]), unit[a] * unit[b] * 8**0.5])

    centres = [
        feature(a, b)
        for a, b in zip(labelled.image1, labelled.image2)
        if row.side[a] == row.side[b] == "train"
    ]
    assert centres
    expected = []
    for _ in range(12):
        far = {
            p: min(np.linalg.norm(feature(*p) - c) for c in centres)
            for p in allowed
            if p not in expected
        }
        expected.append(max(far, key=far.get))
        centres.append(feature(*expected[-1]))
    assert pairs == expected


def test_stratified_fills_the_rare_strata():
    pairs, allowed, unit, *_ = chosen_by("stratified", 40, n=120)
    every = np.array([unit[a] @ unit[b] for a, b in allowed])
    chosen = np.array([unit[a] @ unit[b] for a, b in pairs])
    edges = np.linspace(every.min(), every.max() + 1e-6, 11)
    there, taken = np.histogram(every, edges)[0], np.histogram(chosen, edges)[0]
    assert (
        taken.sum() == 40
        and (taken[there >= 4] >= 4).all()
        and (taken[there < 4] == there[there < 4]).all()
    )
