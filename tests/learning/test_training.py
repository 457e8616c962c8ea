"""The head: starts as the encoder, learns what people mean, is the same by seed, survives the disk."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.geometry import pair_cosines
from imgsearch_utils.learning import training
from imgsearch_utils.learning.heads import HEADS, Head, load_head
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.registry import Registry
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.vectors import Images
from imgsearch_utils.vectors.embeddings import Embeddings

TARGETS, WEIGHTS = (0.0, 0.3, 0.6, 1.0), (0.5, 1.0, 1.5, 3.0)
SMALL = HeadSettings(hidden=16, epochs=8, learning_rate=3e-3, targets=TARGETS, weights=WEIGHTS)


def train_head(embeddings, pairs, dev, settings, seed, train_images=None, classes=None):
    """Train on images of which the mean (those of the pairs when not given) or the classes are known."""
    names = classes.index if classes is not None else train_images
    names = pd.unique(pd.concat([pairs.image1, pairs.image2])) if names is None else names
    table = pd.DataFrame({"image": list(names), **({} if classes is None else {"kind": classes.to_numpy()})})
    return training.train_head(Images(table, embeddings), pairs, settings, seed, dev)


@pytest.fixture(scope="module")
def world():
    """120 images in 24 dimensions; people look at the first 4 dimensions, the encoder at all of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 24)).astype(np.float32)
    names = [f"image {k:03d}.jpg" for k in range(120)]
    a, b = rng.integers(0, 120, (2, 1500))
    a, b = a[a != b], b[a != b]
    seen = vectors[:, :4] / np.linalg.norm(vectors[:, :4], axis=1, keepdims=True)
    grades = np.digitize((seen[a] * seen[b]).sum(1), [-0.2, 0.3, 0.7])
    pairs = pd.DataFrame({"image1": np.take(names, a), "image2": np.take(names, b), "similarity": grades.astype(float)})
    return Embeddings(names, vectors, {}), pairs[:900], pairs[900:]


def cosine_auc(unit, embeddings, pairs):
    from sklearn.metrics import roc_auc_score

    cosines = pair_cosines(unit, embeddings.rows(pairs.image1), embeddings.rows(pairs.image2))
    return roc_auc_score(pairs.similarity == 3, cosines)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_and_loss_learns_and_is_the_same_by_seed(world, head, loss):
    embeddings, train, dev = world
    chosen = SMALL.model_copy(update={"head": head, "loss": loss, "dropout": 0.1})
    first, history = train_head(embeddings, train, dev, chosen, seed=3)
    second, _ = train_head(embeddings, train, dev, chosen, seed=3)
    unit = first.embed(embeddings.vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(unit, second.embed(embeddings.vectors))
    assert list(history) == ["epoch", "train_loss", "dev_loss", "dev_ap", "dev_roc_auc"]
    assert len(history) == 8 and np.isfinite(history).all(axis=None)
    before = Head(24, chosen.model_copy(update={"head": "residual"})).embed(embeddings.vectors)
    assert cosine_auc(unit, embeddings, train) > cosine_auc(before, embeddings, train)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_finite_on_identical_and_on_zero_vectors(head, loss):
    vectors = np.tile(np.array([[1.0, 2, 3]], np.float32), (6, 1))
    vectors[4:] = 0
    embeddings = Embeddings(list("abcdef"), vectors, {})
    pairs = pd.DataFrame({"image1": list("aabce"), "image2": list("bccdf"), "similarity": [3.0, 0, 1, 3, 2]})
    trained, history = train_head(embeddings, pairs, pairs, SMALL.model_copy(update={"head": head, "loss": loss}), 0)
    assert np.isfinite(history[["train_loss", "dev_loss"]]).all(axis=None)
    assert np.isfinite(trained.embed(vectors)).all()
    assert all(torch.isfinite(parameter).all() for parameter in trained.parameters())


def test_residual_and_linear_start_as_the_centred_encoder(world):
    embeddings = world[0]
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    mean = unit.mean(0)
    expected = (unit - mean) / np.linalg.norm(unit - mean, axis=1, keepdims=True)
    for name in ("residual", "linear"):
        head = Head(24, SMALL.model_copy(update={"head": name}), mean)
        np.testing.assert_allclose(head.embed(embeddings.vectors), expected, atol=1e-5)


def test_members_cosine_is_the_mean_of_theirs(world):
    embeddings, train, dev = world
    head, _ = train_head(embeddings, train, dev, SMALL.model_copy(update={"members": 3}), 0)
    unit = head.embed(embeddings.vectors)
    assert unit.shape == (120, 72)
    each = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(unit, 3, axis=1)]
    np.testing.assert_allclose(unit @ unit.T, np.mean([part @ part.T for part in each], axis=0), atol=1e-5)


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_classes_make_their_share_of_the_cosine(world, n_classes):
    embeddings, train, dev = world
    classes = pd.Series(np.argmax(embeddings.vectors[:, 4 : 4 + n_classes], 1).astype(str), embeddings.names)
    chosen = SMALL.model_copy(update={"class_share": 0.4})
    head, _ = train_head(embeddings, train, dev, chosen, 0, classes=classes[:90])
    plain, _ = train_head(embeddings, train, dev, chosen, 0, train_images=classes.index[:90])
    unit, without = head.embed(embeddings.vectors), plain.embed(embeddings.vectors)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    if n_classes == 1:
        np.testing.assert_array_equal(unit, without)
        return
    p = (unit[:, -n_classes:] ** 2) / 0.4
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
    assert (p.argmax(1)[90:] == classes[90:].astype(int)).mean() > 0.6
    coefficient = np.sqrt(p) @ np.sqrt(p).T
    np.testing.assert_allclose(unit @ unit.T, 0.6 * without @ without.T + 0.4 * coefficient, atol=1e-4)


def test_the_epoch_of_lowest_dev_loss_is_kept(world):
    embeddings, train, dev = world
    chosen = SMALL.model_copy(update={"epochs": 12, "learning_rate": 5e-2, "dropout": 0.0})
    head, history = train_head(embeddings, train[:60], dev, chosen, 0)
    unit = head.embed(embeddings.vectors)
    cosines = pair_cosines(unit, embeddings.rows(dev.image1), embeddings.rows(dev.image2))
    grades = dev.similarity.to_numpy()
    weights = np.take(WEIGHTS, grades.astype(int))
    loss = np.average((cosines - np.take(TARGETS, grades.astype(int))) ** 2, weights=weights)
    assert loss == pytest.approx(history.dev_loss.min(), rel=1e-4)
    assert history.dev_loss.idxmin() < 11  # the setting overfits, so the choice matters


def test_statistics_come_from_the_named_training_images(world):
    embeddings, train, dev = world
    head, _ = train_head(embeddings, train, dev, SMALL, 0, train_images=embeddings.names[:7])
    rows = embeddings.vectors[:7] / np.linalg.norm(embeddings.vectors[:7], axis=1, keepdims=True)
    np.testing.assert_allclose(head.mean.numpy(), rows.mean(0), atol=1e-6)


def test_dev_pairs_do_not_touch_the_weights_and_the_callers_randomness_is_kept(world):
    embeddings, train, dev = world
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    head, history = train_head(embeddings, train, dev.iloc[:0], SMALL, 0)
    assert torch.equal(torch.rand(3), expected)
    assert history.dev_loss.isna().all()
    monotone = train_head(embeddings, train, dev, SMALL, 0)[1]
    assert monotone.train_loss.tolist() == history.train_loss.tolist()


def test_round_trip_on_disk_and_refusals(world, tmp_path):
    embeddings, train, dev = world
    head, _ = train_head(embeddings, train, dev, SMALL.model_copy(update={"members": 2}), 0)
    head.save(tmp_path)
    loaded = load_head(tmp_path)
    np.testing.assert_array_equal(loaded.embed(embeddings.vectors), head.embed(embeddings.vectors))
    assert loaded.settings == head.settings
    with pytest.raises(ValueError, match=r"\(n_images, 24\), got \(5, 7\)"):
        loaded.embed(np.zeros((5, 7), np.float32))
    weights = (tmp_path / "head.safetensors").read_bytes()
    config = json.loads((tmp_path / "config.json").read_text())
    spoilt = [
        ("head.safetensors", weights[: len(weights) // 2]),
        ("head.safetensors", b""),
        ("head.safetensors", b"not safetensors at all"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", json.dumps({**config, "dim": 25}).encode()),
        ("config.json", json.dumps({**config, "settings": {**config["settings"], "head": "linear"}}).encode()),
        ("config.json", json.dumps({**config, "settings": {"colour": "red"}}).encode()),
    ]
    for name, content in spoilt:
        head.save(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="does not hold a head") as refusal:
            load_head(tmp_path)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="does not hold a head"):
        load_head(tmp_path / "absent")


def test_refusals_of_training(world):
    embeddings, train, dev = world
    with pytest.raises(ValueError, match="none; label some pairs"):
        train_head(embeddings, train.assign(similarity=np.nan), dev, SMALL, 0)
    with pytest.raises(ValueError, match="0, 1, 2 or 3, got 7"):
        train_head(embeddings, train.assign(similarity=7.0), dev, SMALL, 0)
    with pytest.raises(ValueError, match="nobody.jpg"):
        train_head(embeddings, train.assign(image1="nobody.jpg"), dev, SMALL, 0)
    for setting, near in (("head", "residul"), ("loss", "cosnt")):
        with pytest.raises(ValueError, match="Did you mean (residual|cosent)?"):
            train_head(embeddings, train, dev, SMALL.model_copy(update={setting: near}), 0)


def test_a_name_is_registered_once():
    registry = Registry("flavour")
    registry.register("plain")(object())
    with pytest.raises(ValueError, match="flavour plain is registered already"):
        registry.register("plain")(object())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(LOSSES)))
def test_losses_equal_plain_loops(seed, name):
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(9, 4))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    i, j = np.array([pair for pair in zip(*rng.integers(0, 9, (2, 30))) if pair[0] != pair[1]]).T
    grades = rng.integers(0, 4, len(i))
    loss = LOSSES[name](SMALL)
    got = loss(torch.tensor(e), torch.tensor(i), torch.tensor(j), torch.tensor(grades)).item()
    assert got == pytest.approx(PLAIN[name](e, i, j, grades), rel=1e-4, abs=1e-7)


def weighted(values, grades):
    return sum(v * WEIGHTS[g] for v, g in zip(values, grades)) / sum(WEIGHTS[g] for g in grades)


def plain_graded_mse(e, i, j, grades):
    return weighted([(e[a] @ e[b] - TARGETS[g]) ** 2 for a, b, g in zip(i, j, grades)], grades)


def plain_contrastive(e, i, j, grades):
    far = [np.linalg.norm(e[a] - e[b]) for a, b in zip(i, j)]
    return weighted([d**2 if g == 3 else max(0, 0.5 - d) ** 2 for d, g in zip(far, grades)], grades)


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
    gaps = [e[a] @ e[p] - e[a] @ e[n] for a, p, g in graded for b, n, h in graded if a == b and g > h]
    semi_hard = [gap for gap in gaps if 0 < gap < 0.5]
    counted = semi_hard or [gap for gap in gaps if gap < 0.5]
    return np.mean([0.5 - gap for gap in counted]) if counted else 0.0


PLAIN = {name.removeprefix("plain_"): rule for name, rule in list(globals().items()) if name.startswith("plain_")}
