"""Training: heads learn what people mean, are the same by seed, hold the space where nobody graded;
the losses.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from imgsearch_utils.images import Images
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning import head_training
from imgsearch_utils.learning.heads import HEADS, Recipe
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.metrics.geometry import pair_cosines
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.workspace.registry import Registry

TARGETS, WEIGHTS = (0.0, 0.3, 0.6, 1.0), (0.5, 1.0, 1.5, 3.0)
SMALL = HeadSettings(hidden=16, epochs=8, learning_rate=3e-3, targets=TARGETS, weights=WEIGHTS)
RECIPES = [
    Recipe(),
    Recipe(whiten=True),
    Recipe(decorrelation=0.3),
    Recipe(whiten=True, decorrelation=1.0),
]


def train_head(embeddings, pairs, settings, seed, train_images=None, classes=None, **options):
    """Train on images of which the mean (those of the pairs when not given) or the classes are
    known.
    """
    names = classes.index if classes is not None else train_images
    names = pd.unique(pd.concat([pairs.image1, pairs.image2])) if names is None else names
    table = pd.DataFrame(
        {"image": list(names), **({} if classes is None else {"kind": classes.to_numpy()})}
    )
    return head_training.train_head(Images(table, embeddings), pairs, settings, seed, **options)


@pytest.fixture(scope="module")
def world():
    """120 images in 24 dimensions; people look at the first 4 dimensions, the encoder at all of
    them.
    """
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 24)).astype(np.float32)
    names = [f"image {k:03d}.jpg" for k in range(120)]
    a, b = rng.integers(0, 120, (2, 1500))
    a, b = a[a != b], b[a != b]
    seen = vectors[:, :4] / np.linalg.norm(vectors[:, :4], axis=1, keepdims=True)
    grades = np.digitize((seen[a] * seen[b]).sum(1), [-0.2, 0.3, 0.7])
    pairs = pd.DataFrame(
        {
            "image1": np.take(names, a),
            "image2": np.take(names, b),
            "similarity": grades.astype(float),
        }
    )
    return Embeddings(names, vectors, {}), pairs[:900], pairs[900:]


def cosines(unit, embeddings, pairs):
    return pair_cosines(unit, embeddings.rows(pairs.image1), embeddings.rows(pairs.image2))


def auc(head, embeddings, pairs):
    return roc_auc_score(
        pairs.similarity == 3, cosines(head.embed(embeddings.vectors), embeddings, pairs)
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_and_loss_learns_and_is_the_same_by_seed(world, head, loss):
    embeddings, train, held_out = world
    chosen = SMALL.model_copy(update={"head": head, "loss": loss})
    first, history = train_head(embeddings, train, chosen, 3)
    second, _ = train_head(embeddings, train, chosen, 3)
    unit = first.embed(embeddings.vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert first.sha256 == second.sha256 != train_head(embeddings, train, chosen, 4)[0].sha256
    assert list(history) == ["epoch", "train_loss"] and history.epoch.tolist() == list(range(1, 9))
    assert np.isfinite(history).all(axis=None)
    before, nothing = train_head(embeddings, train, chosen, 3, recipe=Recipe(network=False))
    assert nothing.epoch.tolist() == [0] and nothing.train_loss.isna().all()
    assert auc(first, embeddings, train) > auc(before, embeddings, train)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_recipe_learns_what_holds_for_pairs_that_it_did_not_see(world, recipe):
    embeddings, train, held_out = world
    before, _ = train_head(embeddings, train, SMALL, 0, recipe=Recipe(network=False))
    head, _ = train_head(embeddings, train, SMALL, 0, recipe=recipe)
    assert (
        head.recipe == recipe
        and auc(head, embeddings, held_out) > auc(before, embeddings, held_out) + 0.02
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_finite_on_identical_and_on_zero_vectors(head, loss, recipe):
    vectors = np.tile(np.array([[1.0, 2, 3]], np.float32), (6, 1))
    vectors[4:] = 0
    embeddings = Embeddings(list("abcdef"), vectors, {})
    pairs = pd.DataFrame(
        {"image1": list("aabce"), "image2": list("bccdf"), "similarity": [3.0, 0, 1, 3, 2]}
    )
    chosen = SMALL.model_copy(update={"head": head, "loss": loss})
    trained, history = train_head(embeddings, pairs, chosen, 0, recipe=recipe)
    assert np.isfinite(history.train_loss).all()
    assert np.isfinite(trained.embed(vectors)).all()
    assert all(torch.isfinite(parameter).all() for parameter in trained.parameters())


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_classes_make_their_share_of_the_cosine(world, n_classes):
    embeddings, train, _ = world
    classes = pd.Series(
        np.argmax(embeddings.vectors[:, 4 : 4 + n_classes], 1).astype(str), embeddings.names
    )
    chosen = SMALL.model_copy(update={"class_share": 0.4})
    head, _ = train_head(embeddings, train, chosen, 0, classes=classes[:90])
    plain, _ = train_head(embeddings, train, chosen, 0, train_images=classes.index[:90])
    unit, without = head.embed(embeddings.vectors), plain.embed(embeddings.vectors)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    if n_classes == 1:
        np.testing.assert_array_equal(unit, without)
        return
    p = (unit[:, -n_classes:] ** 2) / 0.4
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
    assert (p.argmax(1)[90:] == classes[90:].astype(int)).mean() > 0.6
    coefficient = np.sqrt(p) @ np.sqrt(p).T
    np.testing.assert_allclose(
        unit @ unit.T, 0.6 * without @ without.T + 0.4 * coefficient, atol=1e-4
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_the_pull_makes_pairs_that_nobody_graded_more_orthogonal(seed):
    """The graded pairs show a few images of one side of the space, all of them similar, as an
    encoder's cone does.
    """
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(60, 12)) + 0.5).astype(np.float32)
    embeddings = Embeddings([f"{k:02d}" for k in range(60)], vectors, {})
    a, b = np.triu_indices(10, 1)
    pairs = pd.DataFrame(
        {
            "image1": np.take(embeddings.names, a),
            "image2": np.take(embeddings.names, b),
            "similarity": 3.0,
        }
    )
    chosen = SMALL.model_copy(update={"epochs": 30})
    squared = []
    for decorrelation in (0.0, 1.0):
        head, _ = train_head(
            embeddings,
            pairs,
            chosen,
            0,
            train_images=embeddings.names,
            recipe=Recipe(decorrelation=decorrelation),
        )
        unit = head.embed(vectors)[10:]
        squared.append(np.mean((unit @ unit.T)[np.triu_indices(50, 1)] ** 2))
    assert squared[1] < squared[0]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    whiten=st.booleans(),
    decorrelation=st.sampled_from([0.0, 0.3]),
    voted=st.booleans(),
    head=st.sampled_from(sorted(HEADS)),
)
def test_the_loss_of_a_step_is_that_of_the_heads_own_embeddings(
    seed, whiten, decorrelation, voted, head
):
    """Though a step computes no more than the network's part: the vectors are longer than what it
    works on.
    """
    rng = np.random.default_rng(seed)
    names = [f"{k:02d}" for k in range(40)]
    embeddings = Embeddings(names, (rng.normal(size=(40, 600)) + 0.2).astype(np.float32), {})
    a, b = np.triu_indices(12, 1)
    pairs = pd.DataFrame(
        {
            "image1": np.take(names, a),
            "image2": np.take(names, b),
            "similarity": rng.integers(0, 4, len(a)).astype(float),
        }
    )
    votes = (
        pd.DataFrame({"image1": ["00", "00"], "image2": ["20", "30"], "similarity": [3.0, 0.0]})
        if voted
        else None
    )
    chosen = SMALL.model_copy(
        update={"head": head, "epochs": 1, "batch_size": 100, "learning_rate": 1e-12}
    )
    made, history = train_head(
        embeddings,
        pairs,
        chosen,
        0,
        train_images=names,
        recipe=Recipe(whiten=whiten, decorrelation=decorrelation),
        votes=votes,
    )
    unit = made.embed(embeddings.vectors).astype(float)
    expected = plain_graded_mse(unit, a, b, pairs.similarity.astype(int))
    expected += decorrelation * np.mean((unit @ unit.T)[np.triu_indices(40, 1)] ** 2)
    expected += (
        0.3 * np.log1p(np.exp(-20 * (unit[0] @ unit[20] - unit[0] @ unit[30]))) / 20 if voted else 0
    )
    assert history.train_loss.item() == pytest.approx(expected, rel=1e-4)


def test_what_is_watched_joins_the_history_and_changes_no_weight(world):
    embeddings, train, held_out = world
    seen = []

    def watch(head, loss):
        unit = head.embed(embeddings.vectors)
        rows = (torch.tensor(embeddings.rows(held_out[name])) for name in ("image1", "image2"))
        grades = torch.tensor(held_out.similarity.to_numpy(int))
        with torch.no_grad():
            value = loss(torch.tensor(cosines(unit, embeddings, held_out)), *rows, grades).item()
        seen.append(
            np.average(
                (cosines(unit, embeddings, held_out) - np.take(TARGETS, grades)) ** 2,
                weights=np.take(WEIGHTS, grades),
            )
        )
        return {"held_loss": value}

    head, history = train_head(embeddings, train, SMALL, 0, watch=watch)
    assert list(history) == ["epoch", "train_loss", "held_loss"]
    np.testing.assert_allclose(history.held_loss, seen, rtol=1e-4)
    plain, alone = train_head(embeddings, train, SMALL, 0)
    assert plain.sha256 == head.sha256 and alone.train_loss.tolist() == history.train_loss.tolist()


def test_statistics_come_from_the_named_training_images(world):
    embeddings, train, _ = world
    head, _ = train_head(embeddings, train, SMALL, 0, train_images=embeddings.names[:7])
    rows = embeddings.vectors[:7] / np.linalg.norm(embeddings.vectors[:7], axis=1, keepdims=True)
    np.testing.assert_allclose(head.mean.numpy(), rows.mean(0), atol=1e-6)


def test_the_callers_randomness_is_kept_and_threads_draw_the_same_weights(world):
    embeddings, train, _ = world
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    alone = [train_head(embeddings, train[:100], SMALL, seed)[0].sha256 for seed in range(4)]
    assert torch.equal(torch.rand(3), expected) and len(set(alone)) == 4
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(
                lambda seed: train_head(embeddings, train[:100], SMALL, seed)[0].sha256, range(4)
            )
        )
    assert together == alone


def test_refusals_of_training(world):
    embeddings, train, _ = world
    with pytest.raises(ValueError, match="none; label some pairs"):
        train_head(embeddings, train.assign(similarity=np.nan), SMALL, 0)
    with pytest.raises(ValueError, match="0, 1, 2 or 3, got 7"):
        train_head(embeddings, train.assign(similarity=7.0), SMALL, 0)
    with pytest.raises(ValueError, match="nobody.jpg"):
        train_head(embeddings, train.assign(image1="nobody.jpg"), SMALL, 0)
    for setting, near in (("head", "residul"), ("loss", "cosnt")):
        with pytest.raises(ValueError, match="Did you mean (residual|cosent)?"):
            train_head(embeddings, train, SMALL.model_copy(update={setting: near}), 0)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(whiten=True, decorrelation=0.3)])
def test_votes_teach_an_order_and_none_change_nothing(world, recipe):
    embeddings, train, held_out = world
    few = train.head(60)
    votes = held_out.assign(similarity=held_out.similarity.map({0: 0.0, 1: 0.0, 3: 3.0})).dropna(
        subset="similarity"
    )
    known = sorted({*few.image1, *few.image2, *votes.image1, *votes.image2})
    longer = SMALL.model_copy(update={"epochs": 60})
    plain, same, taught = (
        train_head(embeddings, few, longer, 0, known, recipe=recipe, votes=each)[0]
        for each in (None, votes[:0], votes)
    )
    assert plain.sha256 == same.sha256 != taught.sha256
    assert auc(taught, embeddings, votes) > auc(plain, embeddings, votes) + 0.02
    strangers = votes.assign(image1="nobody.jpg")
    assert (
        train_head(embeddings, few, longer, 0, known, recipe=recipe, votes=strangers)[0].sha256
        == plain.sha256
    )


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.sampled_from([0.0, 3.0])),
        unique_by=lambda vote: frozenset(vote[:2]),
        max_size=10,
    )
)
def test_triplets_are_all_that_votes_say_of_one_image(votes):
    votes = [vote for vote in votes if vote[0] != vote[1]]
    said = {frozenset(pair): grade for *pair, grade in votes}
    expected = {
        (a, p, n)
        for a in "abcde"
        for p in "abcde"
        for n in "abcde"
        if said.get(frozenset([a, p])) == 3 and said.get(frozenset([a, n])) == 0
    }
    found = head_training.triplets_of(
        pd.DataFrame(votes, columns=["image1", "image2", "similarity"])
    )
    assert len(found) == len(expected) and set(map(tuple, found)) == expected


def test_a_name_is_registered_once():
    registry = Registry("flavour")
    registry.register("plain")(object())
    with pytest.raises(ValueError, match="flavour plain is registered already"):
        registry.register("plain")(object())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(sorted(LOSSES)))
def test_losses_equal_plain_loops(seed, name):
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(9, 4))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    i, j = np.array([pair for pair in zip(*rng.integers(0, 9, (2, 30))) if pair[0] != pair[1]]).T
    grades = rng.integers(0, 4, len(i))
    loss = LOSSES[name](SMALL)
    got = loss(torch.tensor((e[i] * e[j]).sum(1)), *map(torch.tensor, (i, j, grades))).item()
    assert got == pytest.approx(PLAIN[name](e, i, j, grades), rel=1e-4, abs=1e-7)


def weighted(values, grades):
    return sum(v * WEIGHTS[g] for v, g in zip(values, grades)) / sum(WEIGHTS[g] for g in grades)


def plain_graded_mse(e, i, j, grades):
    return weighted([(e[a] @ e[b] - TARGETS[g]) ** 2 for a, b, g in zip(i, j, grades)], grades)


def plain_contrastive(e, i, j, grades):
    far = [np.linalg.norm(e[a] - e[b]) for a, b in zip(i, j)]
    return weighted([d**2 if g == 3 else max(0, 0.5 - d) ** 2 for d, g in zip(far, grades)], grades)


def plain_contrastive_apart(e, i, j, grades):
    far = [(np.linalg.norm(e[a] - e[b]), g) for a, b, g in zip(i, j, grades)]
    similar, others = [d for d, g in far if g == 3], [1 - d for d, g in far if g < 3 and d < 1]
    return sum(np.mean(part) for part in (similar, others) if part)


def plain_ordinal(e, i, j, grades):
    values = []
    for a, b, g in zip(i, j, grades):
        p = [1 / (1 + np.exp(cut - np.exp(1.5) * (e[a] @ e[b]))) for cut in (0.5, 1.5, 2.5)]
        values.append(-np.mean([np.log(p[k - 1] if g >= k else 1 - p[k - 1]) for k in (1, 2, 3)]))
    return weighted(values, grades)


def plain_cosent(e, i, j, grades):
    cosines = [e[a] @ e[b] for a, b in zip(i, j)]
    total = 1.0
    for x, g in zip(cosines, grades):
        for y, h in zip(cosines, grades):
            total += np.exp(20 * (y - x)) if g > h else 0
    return np.log(total) / 20


def plain_triplet(e, i, j, grades):
    graded = [*zip(i, j, grades), *zip(j, i, grades)]
    gaps = [
        e[a] @ e[p] - e[a] @ e[n] for a, p, g in graded for b, n, h in graded if a == b and g > h
    ]
    semi_hard = [gap for gap in gaps if 0 < gap < 0.5]
    counted = semi_hard or [gap for gap in gaps if gap < 0.5]
    return np.mean([0.5 - gap for gap in counted]) if counted else 0.0


PLAIN = {
    name.removeprefix("plain_"): rule
    for name, rule in list(globals().items())
    if name.startswith("plain_")
}
