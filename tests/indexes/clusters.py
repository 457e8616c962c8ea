"""Vectors in clusters to try indexes on, and how much of the truth was found."""

import numpy as np
import pytest

from imgsearch_utils.geometry import normalised

N, DIM, K = 1500, 32, 10


# a server is started; a library compiles itself for a minute
SLOW = {"milvus": "engine", "pgvector": "engine", "pynndescent": "slow"}


def marked(name: str, *more):
    """A parameter of a test, with its mark where the index of this name is slow."""
    return pytest.param(
        name, *more, marks=[getattr(pytest.mark, SLOW[name])] if name in SLOW else []
    )


def clustered(n=N, dim=DIM, seed=0):
    """Unit vectors in clusters, within a narrow cone, as an encoder's are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n // 50, dim)) + 2
    return normalised(centres[rng.integers(len(centres), size=n)] + 0.5 * rng.normal(size=(n, dim)))


VECTORS = clustered()
QUERIES = clustered(80, seed=1)
TRUTH = np.argsort(-QUERIES @ VECTORS.T, axis=1)[:, :K]


def overlap(found_ids, truth=TRUTH):
    """Mean share of each query's true neighbours among the found."""
    return np.mean([len(set(f) & set(t)) / len(t) for f, t in zip(found_ids, truth)])


def widest(index):
    """The most thorough query arguments of an index's own sweep."""
    return {name: values[-1] for name, values in index.default_sweep.items()}
