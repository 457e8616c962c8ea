"""PyNNDescent: a pruned nearest-neighbour graph, compiled by Numba when it is first used."""

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register
from imgsearch_utils.metrics.geometry import normalised


@register("pynndescent")
class PyNNDescent(Index):
    """Graph of n_neighbors by descent (Dong, Charikar & Li, WWW 2011); `epsilon` widens the search.

    The library's own 30 neighbours leave clusters unconnected; 60 connect them. Its only format is
    pickle, which is not read here: a saved index holds the vectors, and loading builds the same
    graph again. The first use in a process compiles for about a minute, which is not counted as
    building."""

    module = extra = "pynndescent"
    default_sweep = {"epsilon": [0.0, 0.05, 0.1, 0.2, 0.4]}
    _compiled = False

    @classmethod
    def library(cls):
        library = super().library()
        if not PyNNDescent._compiled:
            small_sample = normalised(np.random.default_rng(0).normal(size=(200, 8)))
            library.NNDescent(small_sample, metric="dot", random_state=0).query(small_sample, 1)
            PyNNDescent._compiled = True
        return library

    def _build(self, vectors, n_neighbors=60, seed=0):
        self._graph = self.library().NNDescent(
            vectors, metric="dot", n_neighbors=n_neighbors, random_state=seed
        )
        self._graph.prepare()
        self._vectors = vectors

    def _search(self, queries, k, epsilon=0.1):
        return self._graph.query(queries, k, epsilon=epsilon)[0].astype(np.int64)

    def _vectors_added(self):
        return self._vectors
