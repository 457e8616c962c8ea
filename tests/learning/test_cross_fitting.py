"""Cross-fitting: every pair is judged by heads that do not know one of its images, nor
near-duplicates of it.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.learning.cross_fitting import cross_fits, judge
from imgsearch_utils.learning.head_training import train_head
from imgsearch_utils.learning.heads import Recipe
from imgsearch_utils.metrics.geometry import pair_cosines
from imgsearch_utils.study import HeadSettings

SMALL = HeadSettings(hidden=8, epochs=3, learning_rate=3e-3)
RECIPES = {
    "centred": Recipe(network=False),
    "head": Recipe(),
    "whitened head": Recipe(whiten=True, decorrelation=0.3),
}


def images_of(groups, dim=6, classes=1, seed=0):
    """Images with random vectors, one for each entry of `groups`."""
    rng, n = np.random.default_rng(seed), len(groups)
    table = pd.DataFrame(
        {
            "image": [f"{k:03d}" for k in range(n)],
            "kind": [f"kind {k % classes}" for k in range(n)],
            "group": groups,
        }
    )
    return Images(
        table, Embeddings(table.image.tolist(), rng.normal(size=(n, dim)).astype(np.float32), {})
    )


def pairs_of(images, n, seed=0, unlabelled=0.3):
    """Random distinct pairs; a share of them without a grade."""
    rng, names = np.random.default_rng(seed), images.names
    i, j = np.triu_indices(len(names), 1)
    some = rng.permutation(len(i))[:n]
    grades = np.where(rng.random(len(some)) < unlabelled, np.nan, rng.integers(0, 4, len(some)))
    return pd.DataFrame(
        {"image1": np.take(names, i[some]), "image2": np.take(names, j[some]), "similarity": grades}
    )


@settings(max_examples=40)
@given(
    groups=st.lists(st.integers(0, 30), min_size=12, max_size=60),
    n=st.integers(1, 200),
    seed=st.integers(0, 2**40),
)
def test_every_pair_is_judged_by_fits_that_know_nothing_of_one_of_its_images(groups, n, seed):
    images = images_of(groups)
    pairs = pairs_of(images, n, seed)
    by_image = images.table.set_index("image").group
    before = pairs.copy()
    try:
        fits = cross_fits(images, pairs, seed)
    except ValueError as error:
        few = len(set(groups)) < 3 or pairs.similarity.notna().sum() < 10
        assert "too few" in str(error) and "\n" not in str(error) and (few or len(set(groups)) < 6)
        return
    pd.testing.assert_frame_equal(pairs, before)
    held_out = np.concatenate([fit.held_out.index for fit in fits])
    assert np.bincount(held_out).max() <= 2
    for fit in fits:
        known = set(fit.images.table.group)
        ends = zip(by_image[fit.held_out.image1], by_image[fit.held_out.image2])
        assert not any(known.issuperset(end) for end in ends)
        assert set(fit.pairs.image1) | set(fit.pairs.image2) <= set(fit.images.names)
        assert fit.pairs.similarity.notna().all() and len(fit.pairs)
        for part in (fit.pairs, fit.held_out):
            pd.testing.assert_frame_equal(part, pairs.loc[part.index])
    # then no fit lacks pairs to learn from
    if pairs.similarity.notna().sum() > 60 and len(set(groups)) >= 15:
        assert set(held_out) == set(pairs.index)


def test_the_folds_are_drawn_by_seed_and_are_of_about_one_size():
    images = images_of(range(50))
    pairs = pairs_of(images, 1225)
    fits, again, other = (
        cross_fits(images, pairs, 0),
        cross_fits(images, pairs, 0),
        cross_fits(images, pairs, 1),
    )
    assert [fit.held_out.index.tolist() for fit in fits] == [
        fit.held_out.index.tolist() for fit in again
    ]
    assert [fit.held_out.index.tolist() for fit in fits] != [
        fit.held_out.index.tolist() for fit in other
    ]
    assert len(fits) == 6 and {len(fit.images) for fit in fits} <= {41, 42}
    assert {i for fit in fits for i in fit.held_out.index} == set(range(1225))
    graded = pairs.similarity.notna().sum()
    assert np.mean([len(fit.pairs) for fit in fits]) > graded * 2 / 3


@pytest.mark.parametrize(
    ("groups", "n", "said"),
    [
        ([0] * 20, 30, "20 images in 1 groups of near-duplicates are too few to hold any out"),
        ([0, 1] * 10, 30, "20 images in 2 groups of near-duplicates are too few to hold any out"),
        (
            range(20),
            1,
            "1 graded pairs are too few to learn from and to check; grade some more, or what was skipped",
        ),
        (
            range(20),
            0,
            "0 graded pairs are too few to learn from and to check; grade some more, or what was skipped",
        ),
    ],
)
def test_too_little_to_hold_out_is_refused_in_a_clear_line(groups, n, said):
    images = images_of(list(groups))
    with pytest.raises(ValueError) as refusal:
        cross_fits(images, pairs_of(images, n, unlabelled=0), 0)
    assert str(refusal.value) == said


def test_pairs_without_a_grade_alone_are_refused():
    images = images_of(range(20))
    with pytest.raises(ValueError, match="0 graded pairs are too few"):
        cross_fits(images, pairs_of(images, 100, unlabelled=1), 0)


@pytest.fixture(scope="module")
def world():
    images = images_of(np.arange(40) // 2, classes=2)
    pairs = pairs_of(images, 300)
    return images, pairs, cross_fits(images, pairs, 5)


@pytest.fixture(scope="module")
def judged(world):
    return judge(world[2], RECIPES, SMALL, 5)


@pytest.mark.parametrize("name", RECIPES)
def test_the_scores_are_those_of_heads_that_each_fit_trains(world, judged, name):
    images, pairs, fits = world
    expected, curves = [], []
    for fit in fits:
        head, history = train_head(fit.images, fit.pairs, SMALL, 5, RECIPES[name])
        unit = head.embed(images.vectors)
        cosines = pair_cosines(unit, *images.rows_of(fit.held_out))
        expected.append(pd.Series(cosines, fit.held_out.index))
        curves.append(history.train_loss * len(fit.pairs) / sum(len(one.pairs) for one in fits))
    expected = pd.concat(expected)
    found = judged[name].score
    assert found.index.tolist() == list(pairs.index)
    np.testing.assert_allclose(found, expected.groupby(level=0).mean(), atol=1e-5)
    history = judged[name].history
    assert list(history) == ["epoch", "train_loss", "dev_loss", "dev_ap"]
    np.testing.assert_allclose(history.train_loss, sum(curves), rtol=1e-4)
    expected = expected[pairs.similarity[expected.index].notna()]
    ap = average_precision_score(pairs.similarity[expected.index] == 3, expected)
    assert history.dev_ap.iloc[-1] == pytest.approx(ap, abs=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_pair_is_graded_changes_no_score_of_the_pairs_of_its_fit(world, judged, name):
    """Nor do grades of other pairs of the images that a fit holds out."""
    images, pairs, fits = world
    rng = np.random.default_rng(0)
    for number in (0, len(fits) - 1):
        hidden = set(images.names) - set(fits[number].images.names)
        touched = pairs.image1.isin(hidden) | pairs.image2.isin(hidden)
        changed = pairs.assign(
            similarity=pairs.similarity.mask(
                touched,
                pairs.similarity.map(
                    lambda grade: grade if np.isnan(grade) else float(rng.integers(0, 4))
                ),
            )
        )
        assert (changed.similarity.dropna() != pairs.similarity.dropna()).sum() > 40
        recipe, others = {name: RECIPES[name]}, cross_fits(images, changed, 5)
        before, again = (
            judge([some[number]], recipe, SMALL, 5)[name].score for some in (fits, others)
        )
        assert len(again) > 10 and again.tolist() == before.tolist()
        if name != "centred":  # which learns from no grade
            whole = judge(others, recipe, SMALL, 5)[name].score
            assert whole.tolist() != judged[name].score.tolist()


@pytest.mark.parametrize("name", RECIPES)
def test_vectors_of_images_held_out_do_not_teach(world, name):
    images, pairs, fits = world
    hidden = min(set(images.names) - set(fits[0].images.names))
    vectors = images.embeddings.vectors.copy()
    vectors[images.names.index(hidden)] = 7.0
    other = replace(images, embeddings=replace(images.embeddings, vectors=vectors))
    before, again = (
        judge([cross_fits(some, pairs, 5)[0]], {name: RECIPES[name]}, SMALL, 5)[name].score
        for some in (images, other)
    )
    others = fits[0].held_out
    others = others[(others[["image1", "image2"]] != hidden).all(axis=1)].index
    assert len(others) > 10
    np.testing.assert_allclose(again[others], before[others], atol=1e-6)
