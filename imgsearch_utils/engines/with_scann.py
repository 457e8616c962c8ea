"""ScaNN: a tree of partitions, codes whose error matters least where the nearest are, and the
vectors at the end.
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import register

FEW = 1_000  # vectors up to which all are compared
KINDS = {".npy", ".pb", ".pbtxt"}  # of files that ScaNN writes


@register("scann")
class Scann(Index):
    """Anisotropic codes in partitions (Guo et al., ICML 2020): `leaves` are read, the best
    `reorder` are ranked anew.

    leaves 0 means a thirty-second of them, at least 8; nlist 0 sqrt(n). It neither adds nor filters
    here."""

    module = extra = "scann"
    default_sweep = {"leaves": [1, 2, 4, 8, 16, 32, 64], "reorder": [30, 300]}

    def _build(self, vectors, nlist=0, dims_per_code=2, threshold=0.2):
        self.library()  # says what installs it
        from scann.scann_ops.py import scann_ops_pybind

        self._nlist = nlist or int(len(vectors) ** 0.5)
        builder = scann_ops_pybind.builder(vectors, 10, "dot_product").set_n_training_threads(1)
        if len(vectors) > FEW:
            builder = builder.tree(
                self._nlist, self._nlist, training_sample_size=min(len(vectors), 64 * self._nlist)
            )
            builder = builder.score_ah(
                dims_per_code, anisotropic_quantization_threshold=threshold
            ).reorder(100)
        else:
            builder = builder.score_brute_force()
        self._searcher = builder.build().searcher

    def _search(self, queries, k, leaves=0, reorder=100):
        leaves = min(leaves or max(8, self._nlist // 32), self._nlist)
        neighbours, scores = self._searcher.search_batched(
            queries, k, max(reorder, k), leaves, False, 0
        )
        return np.where(np.isnan(scores), -1, neighbours.astype(np.int64))

    def _write(self, path):
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            self._searcher.serialize(folder, True)
            for file in sorted(Path(folder).iterdir()):
                archive.write(file, file.name)

    def _read(self, path):
        self.library()  # says what installs it
        from scann.scann_ops.py import scann_ops_pybind

        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if Path(name).suffix in KINDS:
                    archive.extract(name, folder)
            assets = Path(folder, "scann_assets.pbtxt").read_text()
            self._searcher = scann_ops_pybind.scann_pybind.ScannNumpy(folder, assets)
        self._nlist = self.build_arguments.get("nlist") or int(self.count**0.5)
        self._expect(self._searcher.size())
