"""Who is near whom: every pair where there are few vectors, inverted lists where there are many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsearch_utils.metrics.geometry import normalised, pair_cosines

MANY = 50_000  # vectors; among more, not every pair is looked at
BLOCK = 1024  # rows that are compared with all others at once
PART = 20_000  # rows that are put into lists, or asked, at once
AT_ONCE = 10  # parts whose pairs are kept before those that stand twice leave
PER_LIST = 64  # vectors a list that its centre is learnt from
PROBES = 8  # lists that are read for a vector
ROUNDING = 1e-6, 1e-3  # of cosines in single and in half precision


def near_pairs(vectors: np.ndarray, cosine: float) -> np.ndarray:
    """Every pair of rows (m, 2), the lower first, whose cosine is at least `cosine`; time grows
    with the square of n.

    vectors : (n, d)
    """
    unit, pairs = normalised(vectors), []
    for start in range(0, len(unit), BLOCK):
        rows, columns = np.nonzero(unit[start : start + BLOCK] @ unit.T >= cosine - ROUNDING[0])
        rows += start
        pairs.append(np.stack([rows, columns], 1)[rows < columns])
    return np.concatenate([np.empty((0, 2), int), *pairs])  # also of no vectors


@dataclass(frozen=True)
class Lists:
    """Many vectors in inverted lists, in half precision (Jegou, Douze & Schmid, TPAMI 33, 2011).

    Two vectors that are near one another lie in the same list or in lists whose centres are near;
    so a few lists are read for each. What is found is compared again in single precision.

    vectors : (n, d), as they came; may be memory-mapped
    index : FAISS's
    """

    vectors: np.ndarray
    index: Any

    @classmethod
    def of(cls, vectors: np.ndarray, seed: int = 0) -> "Lists":
        """Put vectors into 2 sqrt(n) lists, whose centres are learnt from a random part of them."""
        import faiss  # here, so that who has few vectors does not wait for it

        n, dim = vectors.shape
        n_lists = max(1, min(int(2 * n**0.5), n // 39))
        centres = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(
            centres, dim, n_lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed, index.nprobe = seed, PROBES
        rows = np.random.default_rng(seed).choice(n, min(n, PER_LIST * n_lists), replace=False)
        index.train(normalised(vectors[np.sort(rows)]))
        for start in range(0, n, PART):
            index.add(normalised(vectors[start : start + PART]))
        return cls(vectors, index)

    def near_pairs(self, cosine: float, progress: Callable = iter) -> np.ndarray:
        """Pairs of rows (m, 2), the lower first, whose cosine is at least `cosine`, as far as the
        lists show them.
        """
        found = [np.empty((0, 2), np.int64)]
        for start in progress(range(0, len(self.vectors), PART)):
            limits, _, ids = self.index.range_search(self._part(start), cosine - ROUNDING[1])
            rows = np.repeat(
                np.arange(start, start + len(limits) - 1), np.diff(limits.astype(np.int64))
            )
            lower = rows < ids
            found.append(np.stack([rows[lower], ids[lower]], 1))
        pairs = np.concatenate(found)
        pairs = pairs[self._cosines(*pairs.T) >= cosine - ROUNDING[0]]
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    def edges(self, k: int, progress: Callable = iter) -> np.ndarray:
        """Each row with the k others nearest to it: pairs (m, 2), the lower first, none twice,
        sorted.
        """
        n, keys = len(self.vectors), np.empty(0, np.int64)
        new_keys: list[np.ndarray] = []
        for start in progress(range(0, n, PART)):
            _, ids = self.index.search(self._part(start), min(k + 1, n))
            rows = np.arange(start, start + len(ids))[:, None]
            is_neighbour = (ids >= 0) & (ids != rows)
            new_keys.append((np.minimum(rows, ids) * n + np.maximum(rows, ids))[is_neighbour])
            if len(new_keys) == AT_ONCE:  # each pair is found from both sides
                keys, new_keys = np.union1d(keys, np.concatenate(new_keys)), []
        return np.stack(np.divmod(np.union1d(keys, np.concatenate([keys[:0], *new_keys])), n), 1)

    def _part(self, start: int) -> np.ndarray:
        return normalised(self.vectors[start : start + PART])

    def _cosines(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        rows, place = np.unique(np.concatenate([i, j]), return_inverse=True)
        return pair_cosines(normalised(self.vectors[rows]), *place.reshape(2, -1))
