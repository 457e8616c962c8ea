"""hnswlib: the graph's authors' own code."""

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register


@register("hnswlib")
class Hnswlib(Index):
    """Graph of m neighbours a node (Malkov & Yashunin, TPAMI 2020); `ef` candidates, never fewer
    than k.
    """

    module = extra = "hnswlib"
    default_sweep = {"ef": [16, 32, 64, 128, 256, 512]}

    def _build(self, vectors, m=16, ef_construction=200, seed=100):
        self._graph = self.library().Index("ip", self.dim)
        self._graph.init_index(len(vectors), M=m, ef_construction=ef_construction, random_seed=seed)
        self._graph.add_items(vectors)

    def _add(self, vectors):
        self._graph.resize_index(self.count + len(vectors))
        self._graph.add_items(vectors)

    def _search(self, queries, k, ef=64, allowed=None):
        self._graph.set_ef(max(ef, k))
        if allowed is None:
            return self._graph.knn_query(queries, k)[0].view(np.int64)
        found_ids = np.full((len(queries), k), -1, np.int64)
        k = min(k, int(allowed.sum()))
        if k:
            # it raises when it finds fewer
            self._graph.set_ef(self.count if 2 * k > allowed.sum() else max(ef, k))
            found_ids[:, :k] = self._graph.knn_query(
                queries, k, filter=lambda row: bool(allowed[row])
            )[0]
        return found_ids

    def _write(self, path):
        self._graph.save_index(str(path))

    def _read(self, path):
        self._graph = self.library().Index("ip", self.dim)
        self._graph.load_index(str(path), self.count)
        self._expect(self._graph.get_current_count())
