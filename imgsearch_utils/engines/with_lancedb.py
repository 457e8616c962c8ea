"""LanceDB: an embedded database whose vectors and inverted lists stay on disk."""

import os
import tarfile
import tempfile
import weakref
from pathlib import Path

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register
from imgsearch_utils.metrics.geometry import BLOCK

TABLE = "vectors"
KINDS = ("FLAT", "IVF_FLAT", "IVF_SQ", "IVF_PQ", "IVF_RQ", "IVF_HNSW_SQ")


@register("lancedb")
class LanceDB(Index):
    """A table on disk and an index of it: `nlist` lists (0: the square root of the number of
    vectors), of which `nprobe` are read.

    `index_type` is one of ``KINDS``: FLAT compares all. PQ (`dims_per_code` numbers a code), RQ
    (one bit a number) and SQ keep less of each vector; with `refine` > 0, `refine` times k are
    found by these and ordered by the vectors themselves. The database stands in a folder of its own
    while the index is open; a saved one is that folder in one file (tar), which loading unpacks.
    Added vectors are searched beside the lists until there are as many as these hold on average;
    then they join them."""

    module = extra = "lancedb"
    default_sweep = {"nprobe": [1, 2, 4, 8, 16, 32, 64]}

    @classmethod
    def library(cls):
        # it warns where a small collection gets fewer lists
        os.environ.setdefault("LANCEDB_LOG", "error")
        return super().library()

    def _build(self, vectors, index_type="IVF_FLAT", nlist=0, dims_per_code=4):
        if index_type not in KINDS:
            raise ValueError(
                f"lancedb has no index_type {index_type}; choose from {', '.join(KINDS)}"
            )
        self._connect()
        blocks = (self._rows(vectors[at : at + BLOCK], at) for at in range(0, len(vectors), BLOCK))
        self._table = self._database.create_table(TABLE, blocks, self._rows(vectors[:0], 0).schema)
        config = self._config(len(vectors), index_type, nlist, dims_per_code)
        if config is not None:
            self._table.create_index("vector", config=config)

    def _connect(self):
        if hasattr(self, "_end"):
            self._end()
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._end, self._folder = weakref.finalize(self, folder.cleanup), Path(folder.name)
        self._database = self.library().connect(self._folder)

    def _config(self, n, index_type, nlist, dims_per_code):
        if index_type == "FLAT":
            return None
        from lancedb import index

        kinds = {
            "IVF_FLAT": index.IvfFlat,
            "IVF_SQ": index.IvfSq,
            "IVF_PQ": index.IvfPq,
            "IVF_RQ": index.IvfRq,
            "IVF_HNSW_SQ": index.IvfHnswSq,
        }
        lists = {
            "distance_type": "cosine",
            "num_partitions": min(n, nlist or max(1, round(n**0.5))),
        }
        if index_type == "IVF_PQ":
            lists |= {"num_sub_vectors": max(1, self.dim // dims_per_code)}
        return kinds[index_type](**lists)

    def _rows(self, vectors, first):
        import pyarrow as pa

        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dim)
        return pa.table({"id": pa.array(np.arange(first, first + len(vectors))), "vector": values})

    def _add(self, vectors):
        self._table.add(self._rows(vectors, self.count))
        outside = sum(
            self._table.index_stats(each.name).num_unindexed_rows
            for each in self._table.list_indices()
        )
        if outside > self.count**0.5:
            self._table.optimize()

    def _search(self, queries, k, nprobe=16, refine=0, allowed=None):
        found_ids = np.full((len(queries), k), -1, np.int64)
        if allowed is not None and not allowed.any():
            return found_ids
        asked = (
            self._table.search(queries)
            .distance_type("cosine")
            .limit(k)
            .nprobes(nprobe)
            .select(["id", "_distance"])
        )
        if refine:
            asked = asked.refine_factor(refine)
        if allowed is not None:
            asked = asked.where(
                f"id in ({', '.join(map(str, np.flatnonzero(allowed)))})", prefilter=True
            )
        answer = asked.to_arrow()
        ids, distances = (answer[name].to_numpy() for name in ("id", "_distance"))
        query = answer["query_index"].to_numpy() if len(queries) > 1 else np.zeros(len(ids), int)
        order = np.lexsort((ids, distances, query))
        place = np.arange(len(ids)) - np.searchsorted(query[order], query[order])
        found_ids[query[order], place] = ids[order]
        return found_ids

    def _write(self, path):
        with tarfile.open(path, "w") as file:
            file.add(self._folder, ".")

    def _read(self, path):
        self._connect()
        try:
            with tarfile.open(path) as file:
                file.extractall(self._folder, filter="data")
        except tarfile.TarError as error:
            raise ValueError(f"no tar file of this package ({error})") from None
        self._table = self._database.open_table(TABLE)
        self._expect(self._table.count_rows())
