"""Does the harness cost speed? Each index through our timing, against a bare loop of its library on
the same file.

    python -m benchmarks.ann_harness --json

`ratio` is queries per second through the harness by those of the bare loop: the median of
interleaved pairs, so that a busy machine slows both; ratio_low and ratio_high are the quartiles. It
should lie between 0.9 and 1.1; `recall` and `bare_recall` should be equal."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from imgsearch_utils import indexes
from imgsearch_utils.metrics import recall_at_k
from imgsearch_utils.metrics.geometry import normalised

K = 10
POINTS = {"faiss_hnsw": {"ef": 128}, "hnswlib": {"ef": 128}, "annoy": {"search_k": 4000}}


def clustered(n: int, dim: int, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and queries in n / 100 clusters, half of each vector's length noise."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, n // 100), dim))
    noisy = centres[rng.integers(len(centres), size=n + n_queries)] + rng.normal(
        size=(n + n_queries, dim)
    )
    return np.split(normalised(noisy), [n])


def bare_faiss_hnsw(path: Path, dim: int, n: int) -> Callable:
    import faiss

    index = faiss.read_index(str(path))
    index.hnsw.efSearch = POINTS["faiss_hnsw"]["ef"]
    return lambda query: index.search(query, K)[1][0]


def bare_hnswlib(path: Path, dim: int, n: int) -> Callable:
    import hnswlib

    index = hnswlib.Index("ip", dim)
    index.load_index(str(path), n)
    index.set_ef(POINTS["hnswlib"]["ef"])
    return lambda query: index.knn_query(query, K)[0][0]


def bare_annoy(path: Path, dim: int, n: int) -> Callable:
    from annoy import AnnoyIndex

    index = AnnoyIndex(dim, "angular")
    index.load(str(path))
    return lambda query: index.get_nns_by_vector(query[0], K, POINTS["annoy"]["search_k"])


BARE = {"faiss_hnsw": bare_faiss_hnsw, "hnswlib": bare_hnswlib, "annoy": bare_annoy}


def bare_speed(ask: Callable, queries: np.ndarray) -> float:
    """Queries per second of a loop with nothing in it but the library's own call, on one thread."""
    with threadpool_limits(1):
        start = time.perf_counter()
        for row in range(len(queries)):
            ask(queries[row : row + 1])
        return len(queries) / (time.perf_counter() - start)


def measure(name: str, vectors: np.ndarray, queries: np.ndarray, pairs: int) -> dict:
    """One library: median and quartiles of the ratio over interleaved pairs of 50 queries, and both
    recalls.

    So short a stretch is seldom interrupted, and the median passes over those that are. After every
    five pairs the file is loaded anew on both sides, so that where a copy lies in memory does not
    decide."""
    (n, dim), point, ratios = vectors.shape, POINTS[name], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        indexes.find(name)().build(vectors).save(path)
        for turn in range(pairs):
            if turn % 5 == 0:
                index = ask = None  # both copies are given up, and the other side loads first
                if turn % 2:
                    ask = BARE[name](path, dim, n)
                index = indexes.load(path)
                ask = ask or BARE[name](path, dim, n)
                index.query(queries, K, **point)
                bare_speed(ask, queries)
            some, speeds = queries[turn * 50 % len(queries) :][:50], {}
            for side in ("harness", "bare") if turn % 2 else ("bare", "harness"):
                if side == "harness":
                    speeds[side] = (
                        len(some) / indexes.time_singles(index, some, K, point, runs=1).sum()
                    )
                else:
                    speeds[side] = bare_speed(ask, some)
            ratios.append(speeds["harness"] / speeds["bare"])
        truth = indexes.exact_neighbours(vectors, queries, K)[1]
        bare = np.array([ask(queries[row : row + 1]) for row in range(len(queries))], np.int64)
        found_ids = {"recall": index.query(queries, K, **point), "bare_recall": bare}
    distances = {
        side: indexes.distances_of(vectors, queries, ids) for side, ids in found_ids.items()
    }
    recalls = {side: recall_at_k(distances[side], truth, K) for side in distances}
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    return {
        "ratio": median,
        "ratio_low": low,
        "ratio_high": high,
        "pairs": pairs,
        "qps": speeds["harness"],
    } | recalls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--n", type=int, default=10_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=101, help="interleaved pairs, at least 7")
    chosen = parser.parse_args()
    if chosen.pairs < 7:
        parser.error(f"--pairs must be at least 7, got {chosen.pairs}")
    vectors, queries = clustered(chosen.n, chosen.dim, chosen.queries)
    measured = {}
    for name in POINTS:
        try:
            measured[name] = measure(name, vectors, queries, chosen.pairs)
        except indexes.MissingPackage as error:
            measured[name] = {"problem": str(error)}
        if not chosen.json:
            print(name, measured[name])
    if chosen.json:
        print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
