"""FAISS: exact search, inverted lists, product quantisation, graphs, hashing; on the GPU where
there is one.
"""

from functools import cache

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import MissingPackage, register
from imgsearch_utils.metrics.geometry import BLOCK

# vectors that each centre is learnt from, at most: more take long and change little
PER_CENTRE = 64


@cache
def _made_once(kind, **values):
    return kind(**values)


class Faiss(Index):
    """What FAISS's indexes share: ``_build`` sets ``_index``."""

    module = "faiss"
    extra = "cpu"

    def _add(self, vectors):
        self._index.add(vectors)

    def _parameters(self, kind, allowed, **values):
        """FAISS's search parameters; those without a filter are kept, for making them takes
        microseconds.
        """
        if allowed is None:
            return _made_once(getattr(self.library(), kind), **values)
        among = self.library().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return getattr(self.library(), kind)(sel=among, **values)

    def _lists(self):
        """4 sqrt(n) inverted lists, at most n / 39: FAISS wants so many vectors to train each."""
        return max(1, min(int(4 * self.count**0.5), self.count // 39))

    def _write(self, path):
        self.library().write_index(self._index, str(path))

    def _read(self, path):
        self._index = self.library().read_index(str(path))
        self._check_size()

    def _check_size(self):
        if (self._index.ntotal, self._index.d) != (self.count, self.dim):
            actual_size = f"{self._index.ntotal} x {self._index.d}"
            raise ValueError(f"it holds {actual_size} vectors, expected {self.count} x {self.dim}")


@register("exact")
class Exact(Faiss):
    """Every vector is compared: the truth, and the fastest up to thousands of vectors."""

    def _build(self, vectors):
        self._index = self.library().IndexFlatIP(self.dim)
        self._index.add(vectors)

    def _search(self, queries, k, allowed=None):
        parameters = self._parameters("SearchParameters", allowed)
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_hnsw")
class Hnsw(Faiss):
    """Graph of m neighbours a node (Malkov & Yashunin, TPAMI 2020); `ef` candidates, never fewer
    than k.
    """

    default_sweep = {"ef": [16, 32, 64, 128, 256, 512]}

    def _build(self, vectors, m=32, ef_construction=200):
        self._fill(self.library().IndexHNSWFlat(self.dim, m), vectors, ef_construction)

    def _fill(self, index, vectors, ef_construction):
        index.hnsw.efConstruction = ef_construction
        index.train(vectors)
        index.add(vectors)
        self._index = index

    def _search(self, queries, k, ef=64, allowed=None):
        parameters = self._parameters("SearchParametersHNSW", allowed, efSearch=max(ef, k))
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_hnsw_sq")
class HnswSq(Hnsw):
    """The same graph over vectors of 8 bits a dimension: a quarter of the memory for vectors."""

    def _build(self, vectors, m=32, ef_construction=200):
        faiss = self.library()
        self._fill(
            faiss.IndexHNSWSQ(self.dim, faiss.ScalarQuantizer.QT_8bit, m), vectors, ef_construction
        )


@register("faiss_ivf")
class Ivf(Faiss):
    """Inverted lists around k-means centres; `nprobe` lists are read.

    nlist 0 means 4 sqrt(n), at most n / 39; nprobe 0 a thirty-second of them, at least 8: where
    there are more lists, the nearest lie in more of them."""

    default_sweep = {"nprobe": [1, 2, 4, 8, 16, 32, 64]}

    def _build(self, vectors, nlist=0, seed=1234):
        faiss, nlist = self.library(), nlist or self._lists()
        self._index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(self.dim), self.dim, nlist, faiss.METRIC_INNER_PRODUCT
        )
        self._fill(vectors, seed)

    def _fill(self, vectors, seed):
        self._index.cp.seed, self._index.cp.max_points_per_centroid = seed, PER_CENTRE
        self._index.train(vectors)
        self._index.add(vectors)

    def _search(self, queries, k, nprobe=0, allowed=None):
        nprobe = nprobe or max(8, self._index.nlist // 32)
        parameters = self._parameters("SearchParametersIVF", allowed, nprobe=nprobe)
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_ivf_disk")
class IvfOnDisk(Ivf):
    """Inverted lists of 8 bits a dimension that stay on disk: a query reads the lists that it looks
    into.

    A loaded index is memory-mapped: it opens at once, takes the memory that the system has to
    spare, and is read-only."""

    _add = None

    def _build(self, vectors, nlist=0, seed=1234):
        faiss, nlist = self.library(), nlist or self._lists()
        self._index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(self.dim),
            self.dim,
            nlist,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._fill(vectors, seed)

    def _read(self, path):
        self._index = self.library().read_index(str(path), self.library().IO_FLAG_MMAP)
        self._check_size()


@register("faiss_ivfpq")
class IvfPq(Faiss):
    """Inverted lists of 4-bit product codes, read by fast scan (Andre et al., TPAMI 2021), then
    refined.

    Each code is for `dims_per_code` dimensions. The best k_factor * k by code are ranked by their
    vectors, which are kept beside the codes: speed is gained, not memory."""

    default_sweep = {"nprobe": [1, 4, 16, 64], "k_factor": [4, 32]}

    def _build(self, vectors, nlist=0, dims_per_code=2, seed=1234):
        if self.dim % dims_per_code:
            raise ValueError(
                f"dims_per_code must divide the {self.dim} dimensions, got {dims_per_code}"
            )
        faiss, nlist = self.library(), nlist or self._lists()
        codes, metric = self.dim // dims_per_code, faiss.METRIC_INNER_PRODUCT
        lists = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(self.dim), self.dim, nlist, codes, 4, metric
        )
        lists.cp.seed = lists.pq.cp.seed = seed
        lists.cp.max_points_per_centroid = PER_CENTRE
        self._index = faiss.IndexRefineFlat(lists)
        enough = 16 * 39  # vectors to train 16 centres: few are repeated
        self._index.train(
            vectors if self.count >= enough else np.resize(vectors, (enough, self.dim))
        )
        self._index.add(vectors)

    def _search(self, queries, k, nprobe=8, k_factor=4, allowed=None):
        lists = self._parameters("SearchParametersIVF", allowed, nprobe=nprobe)
        parameters = self.library().IndexRefineSearchParameters(
            k_factor=k_factor, base_index_params=lists
        )
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_ivf_rabitq")
class IvfRabitq(Faiss):
    """Inverted lists of codes of `bits` (1 to 9) a dimension (RaBitQ: Gao & Long, SIGMOD 2024),
    refined by 8 bits each.

    The vectors are rotated at random first, as the method asks; fast scan reads the codes. The best
    k_factor * k by code are ranked by their 8 bits, which with codes of one bit take a third of
    what the vectors take."""

    default_sweep = {"nprobe": [1, 4, 16, 64], "k_factor": [4, 32]}

    def _build(self, vectors, nlist=0, bits=1, seed=1234):
        faiss, nlist, metric = (
            self.library(),
            nlist or self._lists(),
            self.library().METRIC_INNER_PRODUCT,
        )
        rotation = faiss.RandomRotationMatrix(self.dim, self.dim)
        rotation.init(seed)
        lists = faiss.IndexIVFRaBitQFastScan(
            faiss.IndexFlatIP(self.dim), self.dim, nlist, metric, 32, True, bits
        )
        lists.cp.seed, lists.cp.max_points_per_centroid = seed, PER_CENTRE
        codes = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_8bit, metric)
        self._index = faiss.IndexRefine(faiss.IndexPreTransform(rotation, lists), codes)
        training_rows = np.random.default_rng(seed).permutation(len(vectors))[: PER_CENTRE * nlist]
        self._index.train(vectors[np.sort(training_rows)])
        for at in range(0, len(vectors), BLOCK):  # the rotation copies all that it is given
            self._index.add(vectors[at : at + BLOCK])

    def _search(self, queries, k, nprobe=8, k_factor=4, allowed=None):
        faiss, lists = (
            self.library(),
            self._parameters("SearchParametersIVF", allowed, nprobe=nprobe),
        )
        rotated = faiss.SearchParametersPreTransform(index_params=lists)
        parameters = faiss.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=rotated)
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_lsh")
class Lsh(Faiss):
    """Signs of `bits` random projections of the centred vectors (Charikar, STOC 2002).

    Vectors of one encoder lie in a narrow cone: uncentred, most signs are equal and the hash says
    little. Queries are normalised and centred as the vectors were. The best k_factor * k by Hamming
    distance are ranked by their vectors; with 1 the hash alone chooses."""

    default_sweep = {"k_factor": [1, 4, 16, 64]}

    def _build(self, vectors, bits=512):
        faiss = self.library()
        self._index = faiss.IndexPreTransform(faiss.IndexRefineFlat(faiss.IndexLSH(self.dim, bits)))
        for transform in (
            faiss.CenteringTransform(self.dim),
            faiss.NormalizationTransform(self.dim, 2.0),
        ):
            self._index.prepend_transform(transform)
        self._index.train(vectors)
        self._index.add(vectors)

    def _search(self, queries, k, k_factor=1):
        faiss = self.library()
        refine = faiss.IndexRefineSearchParameters(k_factor=min(k_factor, max(1, self.count // k)))
        return self._index.search(
            queries, k, params=faiss.SearchParametersPreTransform(index_params=refine)
        )[1]


class OnGpu:
    """Moves a built index to the first GPU, and back to be written."""

    extra = "gpu"

    @classmethod
    def library(cls):
        faiss = super().library()
        if not faiss.get_num_gpus():  # StandardGpuResources does not raise where there is none
            install = 'pip install "imgsearch-utils[gpu]" in place of [cpu]'
            raise MissingPackage(f"{cls.name} needs an NVIDIA GPU and faiss-gpu: {install}")
        return faiss

    def _move(self):
        faiss = self.library()
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, self._index)

    def _build(self, vectors, **arguments):
        super()._build(vectors, **arguments)
        self._move()

    def _write(self, path):
        faiss = self.library()
        faiss.write_index(faiss.index_gpu_to_cpu(self._index), str(path))

    def _read(self, path):
        super()._read(path)
        self._move()


@register("faiss_gpu_exact")
class GpuExact(OnGpu, Exact):
    """Exact search by FAISS on the GPU."""

    def _search(self, queries, k):
        return self._index.search(queries, k)[1]


@register("faiss_gpu_ivf")
class GpuIvf(OnGpu, Ivf):
    """Inverted lists on the GPU: trained on the CPU, then moved."""

    def _build(self, vectors, nlist=0, seed=1234):
        super()._build(vectors, nlist=nlist, seed=seed)

    def _search(self, queries, k, nprobe=8):
        return super()._search(queries, k, nprobe)
