"""Heads: the whitening's formula, the basis, what an untrained head is, and the way to disk and
back.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.learning import train_head
from imgsearch_utils.learning.heads import Head, Recipe, load_head
from imgsearch_utils.learning.training_statistics import (
    WIDTH,
    TrainingStatistics,
    spread_basis,
    whitening,
)
from imgsearch_utils.study import HeadSettings

SMALL = HeadSettings(hidden=8, epochs=3, class_share=0.4)


LONG = 2 * WIDTH + 1  # numbers of a vector that does not keep its own directions


def unit_rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 12))
def test_whitening_is_the_inverse_square_root_of_the_shrunk_covariance_up_to_scale(seed, m, dim):
    rng = np.random.default_rng(seed)
    differences = rng.normal(size=(m, dim)) * rng.uniform(0.1, 2, dim)
    directions, damping = (part.numpy() for part in whitening(torch.tensor(differences)))
    ours = np.eye(dim) + directions.T @ np.diag(damping) @ directions
    covariance = differences.T @ differences / m
    shrunk = (covariance + np.trace(covariance) / dim * np.eye(dim)) / 2
    value, vector = np.linalg.eigh(shrunk)
    expected = vector @ np.diag(value**-0.5) @ vector.T
    scale = np.trace(expected) / np.trace(ours)
    np.testing.assert_allclose(ours * scale, expected, atol=1e-5 * scale)
    assert (damping <= 0).all() and (damping > -1).all()


@pytest.mark.parametrize("m", [0, 1])
def test_fewer_than_two_similar_pairs_damp_nothing(m):
    directions, damping = whitening(torch.randn(m, 5))
    assert directions.shape == (0, 5) and damping.shape == (0,)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60))
def test_the_basis_is_orthonormal_and_spans_few_vectors(seed, n, dim):
    rng, dim = np.random.default_rng(seed), dim + LONG
    x = torch.tensor(unit_rows(rng.normal(size=(n, dim))), dtype=torch.float32)
    basis = spread_basis(x)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
    assert len(basis) <= min(n, dim)
    # but directions of hardly any spread
    np.testing.assert_allclose(x @ basis.T @ basis, x, atol=2e-3 * n**0.5)


@settings(max_examples=5)
@given(st.integers(0, 10_000), st.sampled_from([(30, LONG + 50), (LONG + 50, LONG + 10)]))
def test_the_basis_does_not_depend_on_the_order_of_the_images(seed, shape):
    rng = np.random.default_rng(seed)
    x = torch.tensor(unit_rows(rng.normal(size=shape)), dtype=torch.float32)
    order = rng.permutation(shape[0])
    np.testing.assert_allclose(spread_basis(x[order]), spread_basis(x), atol=1e-4)


def test_of_many_directions_the_basis_holds_those_of_most_spread():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(LONG + 150, LONG + 40))
    x[:, WIDTH:] *= 0.01
    basis = spread_basis(torch.tensor(x, dtype=torch.float32)).numpy()
    assert basis.shape == (WIDTH, LONG + 40)
    np.testing.assert_allclose(np.linalg.norm(basis[:, :WIDTH], axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("dim", [2, 2 * WIDTH])
def test_short_vectors_keep_their_own_directions(dim):
    np.testing.assert_array_equal(spread_basis(torch.randn(5, dim)), np.eye(dim))


def test_vectors_without_any_spread_have_no_basis_and_a_head_all_the_same():
    vectors = np.tile(np.eye(LONG, dtype=np.float32)[:1], (6, 1))
    assert spread_basis(torch.zeros(6, LONG)).shape == (0, LONG)
    images = Images.of(Embeddings(list("abcdef"), vectors, {}))
    pairs = pd.DataFrame({"image1": ["a", "b"], "image2": ["c", "d"], "similarity": [3.0, 0.0]})
    for recipe in (Recipe(), Recipe(whiten=True, decorrelation=1.0)):
        head, history = train_head(images, pairs, SMALL, 0, recipe)
        assert history.epoch.tolist() == [0] and np.isfinite(head.embed(vectors)).all()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 12)).astype(np.float32)
    table = pd.DataFrame(
        {"image": [f"{k:02d}" for k in range(40)], "kind": np.take(list("abc"), np.arange(40) % 3)}
    )
    return Images(table, Embeddings(table.image.tolist(), vectors, {}))


@pytest.fixture(scope="module")
def pairs(images):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 40, (2, 200))
    a, b = a[a != b], b[a != b]
    return pd.DataFrame(
        {
            "image1": np.take(images.names, a),
            "image2": np.take(images.names, b),
            "similarity": rng.integers(0, 4, len(a)).astype(float),
        }
    )


def untrained(images, pairs, head, recipe):
    chosen = SMALL.model_copy(update={"head": head, "class_share": 0.0})
    statistics = TrainingStatistics.of(images.vectors, images.classes.to_numpy(str), chosen)
    of_three = pairs[pairs.similarity == 3]
    similar = tuple(
        torch.tensor(images.vectors_of(of_three[name])) for name in ("image1", "image2")
    )
    return Head.untrained(statistics, chosen, recipe, similar)


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(network=False), Recipe(whiten=True), Recipe(True, False)], ids=str
)
@pytest.mark.parametrize("name", ["residual", "linear"])
def test_heads_start_as_the_centred_or_whitened_encoder(images, pairs, name, recipe):
    unit = unit_rows(images.vectors)
    expected = unit_rows(unit - unit.mean(0))
    if recipe.whiten:
        of_three = pairs[pairs.similarity == 3]
        row = dict(zip(images.names, expected))
        differences = np.array([row[a] - row[b] for a, b in zip(of_three.image1, of_three.image2)])
        covariance = differences.T @ differences / len(differences)
        value, vector = np.linalg.eigh(covariance + np.trace(covariance) / 12 * np.eye(12))
        expected = unit_rows(expected @ vector @ np.diag(value**-0.5) @ vector.T)
    np.testing.assert_allclose(
        untrained(images, pairs, name, recipe).embed(images.vectors), expected, atol=1e-4
    )


def test_what_lies_outside_of_the_basis_is_kept_by_a_head_that_corrects(images, pairs):
    """Trained on few images, whose span is small: a vector orthogonal to them is moved by their
    mean alone.
    """
    vectors = np.random.default_rng(0).normal(size=(len(images), LONG)).astype(np.float32)
    few = Images(images.table, Embeddings(images.names, vectors, {})).among(images.names[:6])
    head, _ = train_head(
        few, few.both_of(pairs), SMALL.model_copy(update={"epochs": 20, "class_share": 0.0}), 0
    )
    outside = np.linalg.svd(np.vstack([few.vectors, head.mean.numpy()]))[2][-2:].astype(np.float32)
    np.testing.assert_allclose(outside @ head.basis.numpy().T, 0, atol=1e-4)
    x = head.centred(torch.tensor(outside)).numpy()
    got = head.embed(outside)
    np.testing.assert_allclose(
        got @ outside.T / np.linalg.norm(got @ outside.T, axis=1, keepdims=True),
        x @ outside.T / np.linalg.norm(x @ outside.T, axis=1, keepdims=True),
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "recipe",
    [Recipe(), Recipe(network=False), Recipe(True, False), Recipe(True, True, 0.3)],
    ids=str,
)
def test_round_trip_on_disk(images, pairs, recipe, tmp_path):
    head, _ = train_head(images, pairs, SMALL, 0, recipe)
    head.save(tmp_path)
    loaded = load_head(tmp_path)
    np.testing.assert_array_equal(loaded.embed(images.vectors), head.embed(images.vectors))
    assert (loaded.settings, loaded.recipe, loaded.sha256) == (
        head.settings,
        head.recipe,
        head.sha256,
    )
    assert (
        loaded.made_of
        == head.made_of
        == {"encoder": images.embeddings.encoder, "vectors": images.embeddings.sha256}
    )
    with pytest.raises(ValueError, match=r"\(n_images, 12\), got \(5, 7\)"):
        loaded.embed(np.zeros((5, 7), np.float32))


def test_refusals_of_what_is_no_head(images, pairs, tmp_path):
    head, _ = train_head(images, pairs, SMALL, 0, Recipe(whiten=True))
    head.save(tmp_path)
    weights = (tmp_path / "head.safetensors").read_bytes()
    config = json.loads((tmp_path / "config.json").read_text())
    recipe = config["recipe"]
    changed = [
        {"dim": 13},
        {"dim": "many"},
        {"settings": {**config["settings"], "head": "linear"}},
        {"n_classes": 2},
        {"settings": {"colour": "red"}},
        {"recipe": {**recipe, "network": False}},
        {"recipe": {**recipe, "colour": 1}},
        {"recipe": None},
    ]
    spoilt = [
        ("head.safetensors", weights[: len(weights) // 2]),
        ("head.safetensors", b""),
        ("head.safetensors", b"not safetensors at all"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        *(
            ("config.json", json.dumps({k: v for k, v in config.items() if k != lost}).encode())
            for lost in ("dim", "settings", "recipe", "n_classes")
        ),
        *(("config.json", json.dumps({**config, **change}).encode()) for change in changed),
    ]
    for name, content in spoilt:
        head.save(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="does not hold a head") as refusal:
            load_head(tmp_path)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="does not hold a head"):
        load_head(tmp_path / "absent")
