"""FAISS on the CPU: exact, inverted lists, graph, and hashing of centred vectors."""

from .base import Index, register


class Faiss(Index):
    """What FAISS's indexes share: ``_build`` sets ``_index``."""

    module = "faiss"
    extra = "cpu"

    def _search(self, queries, k):
        return self._index.search(queries, k)[1]

    def _write(self, path):
        self.library().write_index(self._index, str(path))

    def _read(self, path):
        self._index = self.library().read_index(str(path))
        if (self._index.ntotal, self._index.d) != (self.count, self.dim):
            held = f"{self._index.ntotal} x {self._index.d}"
            raise ValueError(f"it holds {held} vectors, expected {self.count} x {self.dim}")


@register("exact")
class Exact(Faiss):
    """Every vector is compared: the truth, and the fastest up to thousands of vectors."""

    def _build(self, vectors):
        self._index = self.library().IndexFlatIP(self.dim)
        self._index.add(vectors)


@register("faiss_hnsw")
class Hnsw(Faiss):
    """Graph of m neighbours a node (Malkov & Yashunin, TPAMI 2020); `ef` candidates, never fewer than k."""

    default_sweep = {"ef": [16, 32, 64, 128, 256, 512]}

    def _build(self, vectors, m=32, ef_construction=200):
        self._index = self.library().IndexHNSWFlat(self.dim, m)
        self._index.hnsw.efConstruction = ef_construction
        self._index.add(vectors)

    def _search(self, queries, k, ef=64):
        parameters = self.library().SearchParametersHNSW(efSearch=max(ef, k))
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_ivf")
class Ivf(Faiss):
    """Inverted lists around k-means centres; `nprobe` lists are read; nlist 0 means 4 sqrt(n), at most n / 39."""

    default_sweep = {"nprobe": [1, 2, 4, 8, 16, 32, 64]}

    def _build(self, vectors, nlist=0, seed=1234):
        faiss = self.library()
        nlist = nlist or max(1, min(int(4 * self.count**0.5), self.count // 39))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self.dim), self.dim, nlist, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = seed
        self._index.train(vectors)
        self._index.add(vectors)

    def _search(self, queries, k, nprobe=8):
        parameters = self.library().SearchParametersIVF(nprobe=min(nprobe, self._index.nlist))
        return self._index.search(queries, k, params=parameters)[1]


@register("faiss_lsh")
class Lsh(Faiss):
    """Signs of `bits` random projections of the centred vectors (Charikar, STOC 2002).

    Vectors of one encoder lie in a narrow cone: uncentred, most signs are equal and the hash says little. Queries are
    normalised and centred as the vectors were. The best k_factor * k by Hamming distance are ranked by their vectors;
    with 1 the hash alone chooses.
    """

    default_sweep = {"k_factor": [1, 4, 16, 64]}

    def _build(self, vectors, bits=512):
        faiss = self.library()
        self._index = faiss.IndexPreTransform(faiss.IndexRefineFlat(faiss.IndexLSH(self.dim, bits)))
        for transform in (faiss.CenteringTransform(self.dim), faiss.NormalizationTransform(self.dim, 2.0)):
            self._index.prepend_transform(transform)
        self._index.train(vectors)
        self._index.add(vectors)

    def _search(self, queries, k, k_factor=1):
        faiss = self.library()
        refine = faiss.IndexRefineSearchParameters(k_factor=min(k_factor, max(1, self.count // k)))
        return self._index.search(queries, k, params=faiss.SearchParametersPreTransform(index_params=refine))[1]
