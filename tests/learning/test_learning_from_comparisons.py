"""Comparisons teach without any grade, and only comparisons that a head did not see judge it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning.comparisons import agreement_gain, learn_from_comparisons
from imgsearch_utils.learning.head_training import train_head
from imgsearch_utils.learning.heads import Recipe
from imgsearch_utils.learning.promotion import explain
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import HeadSettings

SMALL = HeadSettings(hidden=16, epochs=8, learning_rate=3e-3)
NO_PAIRS = pd.DataFrame({"image1": [], "image2": [], "similarity": np.empty(0)})


@pytest.fixture(scope="module")
def world():
    """80 images in 16 dimensions, two of each group; people look at the first 4 dimensions."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(40, 16)), 2, 0) + 0.01 * rng.normal(size=(80, 16))
    names = [f"{k:02d}" for k in range(80)]
    table = pd.DataFrame({"image": names, "group": np.repeat(range(40), 2)})
    return Images(table, Embeddings(names, vectors.astype(np.float32), {}))


def asked(images, n, seed):
    """Three images of three groups, n times."""
    rng = np.random.default_rng(seed)
    rows = [
        2 * rng.choice(len(images) // 2, 3, replace=False) + rng.integers(0, 2, 3) for _ in range(n)
    ]
    return pd.DataFrame(
        np.array(images.names, object)[rows], columns=["query", "closer", "farther"]
    )


def answered(images, questions):
    """The questions as people answer them."""
    unit = normalised(images.vectors[:, :4])
    q, a, b = (questions[name].map(images.names.index) for name in questions)
    right = (unit[q] * (unit[a] - unit[b])).sum(1) > 0
    return turned(questions, ~right)


def turned(triplets, rows):
    """The triplets with closer and farther exchanged in some rows."""
    return triplets.assign(
        closer=triplets.closer.mask(rows, triplets.farther),
        farther=triplets.farther.mask(rows, triplets.closer),
    )


def share(model, images, triplets):
    unit = model.vectors(images.vectors)
    q, a, b = (triplets[name].map(images.names.index) for name in triplets)
    return ((unit[q] * (unit[a] - unit[b])).sum(1) > 0).mean()


def test_comparisons_alone_teach_what_holds_for_others_and_are_told_in_a_sentence(world):
    longer = SMALL.model_copy(update={"epochs": 30})
    result = learn_from_comparisons(world, answered(world, asked(world, 200, 0)), longer, 0)
    new = answered(world, asked(world, 500, 1))
    encoder, head = (share(result.models[name], world, new) for name in ("encoder", "head"))
    assert head > encoder + 0.05 and result.promoted
    row = result.candidates.set_index("candidate").loc[result.chosen]
    assert row.use == "search" and row.gain_low > 0
    assert row.agreement == result.judged[result.chosen].mean() == pytest.approx(head, abs=0.07)
    assert result.judged.encoder.mean() == pytest.approx(encoder, abs=0.07)
    said = " ".join(explain(result.chosen, result.decision))
    assert f"On {len(result.judged)} comparisons" in said and "agreement is" in said
    assert "it is shown to be better than the encoder" in said
    assert result.models["head"].calibration is None  # an order says no probability


def test_the_same_comparisons_and_seed_give_the_same_head(world):
    triplets = answered(world, asked(world, 60, 2))
    first, again, other = (
        learn_from_comparisons(world, triplets, SMALL, seed).models["head"].head.sha256
        for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("seed", [100, 101])
def test_answers_at_random_show_nothing(world, seed):
    questions = asked(world, 100, seed)
    at_random = turned(questions, np.random.default_rng(seed + 1).random(100) < 0.5)
    result = learn_from_comparisons(world, at_random, SMALL, seed)
    assert result.decision.answer != "shown"


def test_a_head_in_search_stays_there_until_comparisons_say_that_it_is_worse(world):
    at_random = turned(asked(world, 100, 7), np.random.default_rng(8).random(100) < 0.5)
    result = learn_from_comparisons(world, at_random, SMALL, 0, in_search=True)
    assert result.promoted == (result.decision.answer != "worse")
    without = learn_from_comparisons(world, at_random, SMALL, 0)
    assert without.decision.evidence == result.decision.evidence


@settings(max_examples=3, deadline=None)
@given(group=st.integers(0, 39), seed=st.integers(0, 100))
def test_no_judge_has_seen_the_query_of_what_it_judges_nor_a_near_duplicate(world, group, seed):
    """So the answers on a group's images, whichever they are, change no score of its queries."""
    triplets = answered(world, asked(world, 80, seed))
    own = triplets["query"].map(world.names.index) // 2 == group
    said, otherwise = (
        learn_from_comparisons(world, table, SMALL, 0).judged
        for table in (triplets, turned(triplets, own))
    )
    for name in ("encoder", "centred", "head, pull 1", "head, pull 0.3"):
        assert (said[name][own] == 1 - otherwise[name][own]).all()


def test_what_cannot_teach_is_left_out_or_refused(world):
    triplets = answered(world, asked(world, 60, 5))
    odd = pd.DataFrame(
        [["00", "01", "20"], ["00", "20", "21"], ["00", "stranger", "20"]], columns=[*triplets]
    )
    plain, more = (
        learn_from_comparisons(world, table, SMALL, 0)
        for table in (triplets, pd.concat([triplets, odd], ignore_index=True))
    )
    assert len(more.judged) == 60
    assert more.models["head"].head.sha256 == plain.models["head"].head.sha256
    with pytest.raises(ValueError, match="for 10 different pictures or more, got 3; compare more"):
        few = triplets[triplets["query"].isin(triplets["query"].unique()[:3])]
        learn_from_comparisons(world, few, SMALL, 0)
    with pytest.raises(ValueError, match="got an answer neither"):
        learn_from_comparisons(world, triplets.assign(neither=True), SMALL, 0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=2, max_size=60)
)
def test_a_gain_has_an_interval_where_two_differ_often_enough(rows):
    agrees, rival = np.array(rows, float).T
    mean, low, high = agreement_gain(agrees, rival, np.arange(len(rows)) % 7)
    assert mean == pytest.approx((agrees - rival).mean())
    if (agrees != rival).sum() < 10:
        assert np.isnan([low, high]).all()
    else:
        assert low - 1e-9 <= mean <= high + 1e-9
    one = agreement_gain(agrees, rival, np.zeros(len(rows)))
    assert np.isnan(one[1:]).all()  # one picture says nothing of others


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), graded=st.booleans(), pull=st.sampled_from([0.0, 0.3]))
def test_a_step_of_comparisons_has_the_loss_of_the_heads_own_embeddings(seed, graded, pull):
    rng = np.random.default_rng(seed)
    names = [f"{k:02d}" for k in range(40)]
    images = Images.of(Embeddings(names, rng.normal(size=(40, 600)).astype(np.float32), {}))
    triplets = asked(images, 30, seed)
    pairs = pd.DataFrame({"image1": names[:20], "image2": names[20:], "similarity": 3.0})
    chosen = SMALL.model_copy(update={"epochs": 1, "batch_size": 100, "learning_rate": 1e-12})
    head, history = train_head(
        images,
        pairs if graded else NO_PAIRS,
        chosen,
        0,
        Recipe(decorrelation=pull),
        comparisons=triplets,
    )
    unit = head.embed(images.vectors).astype(float)
    q, a, b = (triplets[name].map(names.index) for name in triplets)
    order = np.log1p(np.exp(-5 * (unit[q] * (unit[a] - unit[b])).sum(1))).mean() / 5
    order += pull * np.mean((unit @ unit.T)[np.triu_indices(40, 1)] ** 2)
    if graded:
        similar = ((1 - (unit[:20] * unit[20:]).sum(1)) ** 2).mean()
        similar += pull * np.mean((unit @ unit.T)[np.triu_indices(40, 1)] ** 2)
        order = (30 * order + 20 * similar) / 50
    assert history.train_loss.item() == pytest.approx(order, rel=1e-4)
