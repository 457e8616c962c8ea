"""Exact search in vectors as they lie on disk: nothing is built or copied, so the first answer
comes at once.
"""

import functools

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.metrics.geometry import lengths, normalised

BLOCK = 65_536  # vectors that are compared at once


class Scan(Index):
    """Every vector is compared, as by ``exact``, block by block; the vectors may have any length
    and be memory-mapped.

    vectors : (n, d) float32
    """

    name = "exact"
    module = "numpy"

    def __init__(self, vectors: np.ndarray):
        self._of, self.dim = vectors, vectors.shape[1]
        self.build_arguments = {}

    @property
    def count(self) -> int:
        """How many vectors are compared."""
        return len(self._of)

    def _search(self, queries, k, allowed=None):
        best = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(self._of), BLOCK):
            part = slice(start, start + BLOCK)
            cosine = queries @ self._of[part].T
            cosine /= self._lengths[part]
            if allowed is not None:
                cosine[:, ~allowed[part]] = -np.inf
            n = min(k, cosine.shape[1])
            first = np.argpartition(-cosine, n - 1, axis=1)[:, :n]
            both = np.concatenate([scores, np.take_along_axis(cosine, first, 1)], 1)
            ids = np.concatenate([best, np.where(np.isneginf(both[:, k:]), -1, first + start)], 1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :k]
            scores, best = np.take_along_axis(both, order, 1), np.take_along_axis(ids, order, 1)
        return best

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        return np.maximum(lengths(self._of), np.finfo(np.float32).tiny)


def among(vectors: np.ndarray, rows: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of each query among some rows (m,): ids (n_queries, k), -1 where there are
    fewer.
    """
    nearest_rows = np.full((len(queries), k), -1, np.int64)
    if len(rows):
        n = min(k, len(rows))
        cosine = queries @ normalised(vectors[rows]).T
        first = np.argpartition(-cosine, n - 1, axis=1)[:, :n]
        order = np.argsort(-np.take_along_axis(cosine, first, 1), axis=1, kind="stable")
        nearest_rows[:, :n] = rows[np.take_along_axis(first, order, 1)]
    return nearest_rows
