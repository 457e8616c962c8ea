"""Annoy: a forest of random projection trees."""

import shutil

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register


@register("annoy")
class Annoy(Index):
    """Annoy (Bernhardsson): `trees` trees, split by angle or dot product; `search_k` nodes are
    looked at.

    It cannot add to or delete from a built forest. Given 0, search_k is trees * k.
    """

    module = "annoy"
    default_sweep = {"search_k": [100, 400, 1600, 6400, 25600]}

    def _build(self, vectors, trees=50, metric="angular", seed=0):
        self._forest = self.library().AnnoyIndex(self.dim, metric)
        self._forest.set_seed(seed)
        for row, vector in enumerate(vectors):
            self._forest.add_item(row, vector)
        self._forest.build(trees, n_jobs=-1)

    def _search(self, queries, k, search_k=0):
        found_ids = np.full((len(queries), k), -1, np.int64)
        for row, query in enumerate(queries):
            ids = self._forest.get_nns_by_vector(query, k, search_k or -1)
            found_ids[row, : len(ids)] = ids
        return found_ids

    def _write(self, path):
        mapped = path.with_name(path.name + ".mapped")
        # from now on the forest lives in this file: keep it away from the saved one
        self._forest.save(str(mapped))
        shutil.copyfile(mapped, path)
        mapped.unlink()

    def _read(self, path):
        self._forest = self.library().AnnoyIndex(
            self.dim, self.build_arguments.get("metric", "angular")
        )
        self._forest.load(str(path))
        if self._forest.get_n_items() != self.count:
            raise ValueError(
                f"it holds {self._forest.get_n_items()} vectors, expected {self.count}"
            )
