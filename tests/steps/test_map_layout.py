"""Vectors on a map: what the components explain, who stays near whom, and that a kept map is of
these vectors.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.steps.map_layout import kept_layout, lay_out, spread_out

CLUSTERS = 5


def clustered(n=120, dim=32, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % CLUSTERS
    vectors = rng.normal(size=(CLUSTERS, dim))[kind] + 0.1 * rng.normal(size=(n, dim))
    return [f"{i}.jpg" for i in range(n)], vectors.astype(np.float32), kind


def test_principal_components_are_those_of_the_unit_vectors():
    names, vectors, _ = clustered()
    layout = lay_out(names, vectors * np.linspace(1, 9, len(names))[:, None], "pca")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = unit - unit.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(np.abs(layout.vectors) - np.abs(centred @ axes[:2].T)).max() < 1e-4
    shares = values**2 / (values**2).sum()
    assert np.allclose(layout.config["explained"], shares[:10], atol=1e-4)


@pytest.mark.slow  # UMAP compiles itself for a minute
def test_umap_keeps_who_is_near_whom_and_gives_the_same_map_each_time():
    pytest.importorskip("umap", reason="needs umap-learn: pip install -e '.[map]'")
    names, vectors, kind = clustered()
    layout = lay_out(names, vectors, "umap", seed=3)
    near = NearestNeighbors(n_neighbors=6).fit(layout.vectors).kneighbors(return_distance=False)
    assert (kind[near] == kind[:, None]).mean() > 0.95
    assert np.array_equal(layout.vectors, lay_out(names, vectors, "umap", seed=3).vectors)
    few = lay_out(names[:4], vectors[:4], "umap")
    assert few.vectors.shape == (4, 2) and np.isfinite(few.vectors).all()


@pytest.mark.parametrize("n, dim", [(3, 1), (3, 8), (4, 2), (60, 3)])
def test_a_few_images_or_dimensions_are_a_map_too(n, dim):
    layout = lay_out(
        [str(i) for i in range(n)], np.random.default_rng(1).normal(size=(n, dim)), "pca"
    )
    assert layout.vectors.shape == (n, 2) and np.isfinite(layout.vectors).all()


def test_what_is_no_map_is_refused():
    names, vectors, _ = clustered()
    with pytest.raises(ValueError, match="needs three images, got 2"):
        lay_out(names[:2], vectors[:2], "pca")
    with pytest.raises(ValueError, match="one of pca, umap, got 'tsne'"):
        lay_out(names, vectors, "tsne")


def test_a_kept_map_is_taken_for_these_vectors_alone(tmp_path):
    names, vectors, _ = clustered()
    folder = tmp_path / "encoder_pca"
    first = kept_layout(folder, names, vectors, "pca")
    marked = Embeddings(names, first.vectors + 1, first.config)
    marked.save(folder)  # to see that it is read, and not made
    assert np.array_equal(kept_layout(folder, names, vectors, "pca").vectors, marked.vectors)
    others = [
        (names[::-1], vectors, 0),
        (names, vectors * np.float32(1.001), 0),
        (names, vectors, 1),
    ]
    for other_names, other_vectors, seed in others:
        marked.save(folder)
        made = kept_layout(folder, other_names, other_vectors, "pca", seed)
        assert made.names == list(other_names) and not np.allclose(made.vectors, marked.vectors)
    marked.save(folder)
    (folder / "vectors.npy").write_bytes(b"broken")
    assert np.allclose(kept_layout(folder, names, vectors, "pca").vectors, first.vectors, atol=1e-5)


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(0, 9), st.integers(1, 9))
def test_pictures_on_a_map_stand_apart(n, seed, cells):
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(n, 2)) * rng.choice([0, 1, 100], 2)).astype(np.float32)
    rows = spread_out(points, cells)
    width = np.ptp(points, axis=0).max() / cells or 1
    chosen = points[rows] / width
    apart = np.abs(chosen[:, None] - chosen[None]).max(2)[~np.eye(len(rows), dtype=bool)]
    assert 1 <= len(rows) <= cells**2 and len(set(rows)) == len(rows)
    assert not len(apart) or apart.min() >= 0.75 - 1e-3
