"""usearch: a graph over vectors of a chosen precision."""

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register


@register("usearch")
class Usearch(Index):
    """Graph of m neighbours a node over vectors in `dtype` (f32, f16, bf16, i8); `ef` candidates,
    never below k.

    Vectors are added on one thread, which gives the same graph each time. When several threads add,
    the graph does not lead to every vector: with two, up to 62 of 1,500 were never found, whatever
    `ef`. It costs time: as many times the seconds as there are cores."""

    module = extra = "usearch"
    default_sweep = {"ef": [16, 32, 64, 128, 256, 512]}

    def _new(self, m=16, ef_construction=128, dtype="f16"):
        self.library()  # says what installs it
        from usearch.index import Index as Graph

        return Graph(
            ndim=self.dim, metric="ip", dtype=dtype, connectivity=m, expansion_add=ef_construction
        )

    def _build(self, vectors, m=16, ef_construction=128, dtype="f16"):
        self._graph = self._new(m, ef_construction, dtype)
        self._graph.add(np.arange(len(vectors)), vectors, threads=1)

    def _add(self, vectors):
        self._graph.add(np.arange(self.count, self.count + len(vectors)), vectors, threads=1)

    def _search(self, queries, k, ef=64):
        self._graph.expansion_search = max(ef, k)
        matches = self._graph.search(queries, k)
        keys, counts = (
            np.atleast_2d(matches.keys),
            np.atleast_1d(getattr(matches, "counts", len(matches.keys))),
        )
        found_ids = np.full((len(queries), k), -1, np.int64)
        found_ids[:, : keys.shape[1]] = keys
        found_ids[np.arange(k) >= counts[:, None]] = -1
        return found_ids

    def _write(self, path):
        self._graph.save(str(path))

    def _read(self, path):
        self._graph = self._new(**self.build_arguments)
        self._graph.load(str(path))
        self._expect(len(self._graph))
