"""Near-duplicates and neighbours: every pair where there are few vectors, inverted lists where
there are many.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_utils.images.near_duplicates import near_duplicate_groups
from imgsearch_utils.images.near_pairs import Lists, near_pairs
from imgsearch_utils.metrics.geometry import normalised


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), cosine=st.floats(0.3, 1.0))
def test_near_duplicate_groups_are_those_of_a_plain_loop(seed, n, cosine):
    rng = np.random.default_rng(seed)
    vectors = (
        rng.integers(-2, 3, (n, 3)).astype(np.float32) + 0.01 * rng.integers(0, 2, (n, 3)) + 0.003
    )
    unit = vectors.astype(np.float64) / np.linalg.norm(
        vectors.astype(np.float64), axis=1, keepdims=True
    )
    alike = unit @ unit.T
    if (np.abs(alike - cosine) < 1e-5)[np.triu_indices(n, 1)].any() and cosine < 1:
        return  # rounding decides such a pair
    expected_pairs = [
        (i, j) for i in range(n) for j in range(i + 1, n) if alike[i, j] >= min(cosine, 1 - 1e-6)
    ]
    group = list(range(n))
    for _ in range(n):  # spread the smallest number until nothing changes
        for i, j in expected_pairs:
            group[i] = group[j] = min(group[i], group[j])
    groups, pairs = near_duplicate_groups(vectors.astype(np.float32), cosine)
    assert sorted(map(tuple, pairs.tolist())) == expected_pairs
    assert groups.tolist() == pd.factorize(np.array(group))[0].tolist()


def test_duplicates_are_transitive_and_found_across_blocks_and_at_cosine_one():
    angles = np.radians([0, 40, 10, 20, 180])
    groups, pairs = near_duplicate_groups(
        np.stack([np.cos(angles), np.sin(angles)], 1), np.cos(np.radians(15))
    )
    assert groups.tolist() == [0, 1, 0, 0, 2] and sorted(map(tuple, pairs.tolist())) == [
        (0, 2),
        (2, 3),
    ]
    rng = np.random.default_rng(0)
    many = rng.normal(size=(2100, 16)).astype(np.float32)
    many[2000:] = 3 * many[:100]
    groups, pairs = near_duplicate_groups(many, 1.0)
    assert sorted(pairs.tolist()) == [[i, 2000 + i] for i in range(100)]
    assert groups.tolist() == [*range(2000), *range(100)]


def crowd(n: int, seed: int, dim: int = 32) -> np.ndarray:
    """Vectors in 40 clusters, of any length, every tenth of them with a near twin somewhere
    else.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, dim))[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, dim))
    of, twin = rng.permutation(n)[: 2 * (n // 10)].reshape(2, -1)
    vectors[twin] = vectors[of] + rng.choice([0, 0.01, 0.05], (len(of), 1)) * rng.normal(
        size=(len(of), dim)
    )
    return (vectors * rng.uniform(0.1, 9, (n, 1))).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_among_many_the_lists_find_the_duplicates_that_all_pairs_show(seed):
    vectors = crowd(6000, seed)
    groups, pairs = near_duplicate_groups(vectors, 0.99)
    listed, found = near_duplicate_groups(vectors, 0.99, many=100)
    true, there = (set(map(tuple, each.tolist())) for each in (pairs, found))
    assert len(true) > 500 and there <= true, (
        "what the lists find is compared again in single precision"
    )
    assert len(there) >= 0.995 * len(true) and (listed == groups).mean() > 0.9
    assert found.tolist() == sorted(found.tolist()) and (found[:, 0] < found[:, 1]).all()


def test_copies_of_one_picture_are_one_group_however_many_they_are():
    vectors = crowd(3000, 7)
    vectors[500:900] = vectors[0]
    groups, _ = near_duplicate_groups(vectors, 0.9999, many=100)
    assert len(set(groups[[0, *range(500, 900)]])) == 1


def test_edges_lead_to_the_nearest_and_none_stands_twice():
    vectors = crowd(5000, 3)
    edges = Lists.of(vectors).edges(5)
    unit = normalised(vectors)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    known = set(map(tuple, edges.tolist()))
    asked = [
        (min(row, other), max(row, other))
        for row, others in enumerate(nearest.tolist())
        for other in others
    ]
    assert np.mean([pair in known for pair in asked]) > 0.98
    assert len(known) == len(edges) and (edges[:, 0] < edges[:, 1]).all()


def test_lists_of_hardly_any_vectors_and_of_memory_mapped_ones(tmp_path):
    vectors = crowd(60, 0)
    np.save(tmp_path / "v.npy", vectors)
    lists = Lists.of(np.load(tmp_path / "v.npy", mmap_mode="r"))
    assert lists.near_pairs(0.99).tolist() == near_pairs(vectors, 0.99).tolist()
    assert len(lists.edges(100)) == 60 * 59 // 2
