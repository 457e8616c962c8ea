"""Comparing nearest-neighbour indexes as ann-benchmarks and VIBE do.

Truth is computed here; indexes only name ids, whose distances are computed here again, outside the
timer. Build arguments are apart from query arguments: one build, many query points."""

import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from imgsearch_utils import indexes
from imgsearch_utils.indexes.memory import resident_bytes
from imgsearch_utils.metrics import recall_at_k
from imgsearch_utils.study import IndexSettings
from imgsearch_utils.workspace import write_atomic

CUTS = (1, 5, 10, 20, 50, 100)  # recall@k is given for those up to k, and for k
QUIET = partial(tqdm, disable=True)


def hold_out(n: int, n_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (gallery, queries) of n vectors: queries are held out of the index."""
    if not 0 < n_queries < n:
        raise ValueError(
            f"n_queries must be 1 to {n - 1}, to leave vectors to search among, got {n_queries}"
        )
    rows = np.random.default_rng(seed).permutation(n)
    return np.sort(rows[n_queries:]), np.sort(rows[:n_queries])


def distances_of(vectors: np.ndarray, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Cosine distances 1 - cos of the results, recomputed; NaN where an index found nothing (-1).

    Raises
    ------
    ValueError
        for ids that are duplicated in a query's results, or that no vector has.
    """
    if ids.min(initial=0) < -1 or ids.max(initial=0) >= len(vectors):
        odd = ids[(ids < -1) | (ids >= len(vectors))][0]
        raise ValueError(f"expected ids 0 to {len(vectors) - 1} (or -1: not found), got {odd}")
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        query, place = np.argwhere(twice)[0]
        raise ValueError(
            f"expected distinct ids, got {ordered[query, place]} twice for query {query}"
        )
    distances = np.empty(ids.shape)
    for row, query in enumerate(queries):
        distances[row] = 1 - vectors[ids[row]] @ query
    return np.where(ids >= 0, distances, np.nan)


def exact_neighbours(
    vectors: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k true neighbours of each query: ids and cosine distances, ascending, both (n_queries,
    k).
    """
    ids = indexes.find("exact")().build(vectors).query(queries, k)
    distances = distances_of(vectors, queries, ids)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)


def points_of(settings: IndexSettings) -> list[dict]:
    """Every combination of the query arguments that are swept; the index's own sweep when none is
    given.
    """
    sweep = settings.query or indexes.find(settings.name).default_sweep
    return [dict(zip(sweep, values)) for values in itertools.product(*sweep.values())]


def _seconds(index, queries, k, point) -> float:
    start = time.perf_counter()
    index.query(queries, k, **point)
    return time.perf_counter() - start


def time_singles(index, queries, k, point, runs) -> np.ndarray:
    """Seconds of each query alone, one thread: (runs, n_queries)."""
    times = np.empty((runs, len(queries)))
    with threadpool_limits(1):
        for run, row in itertools.product(range(runs), range(len(queries))):
            times[run, row] = _seconds(index, queries[row : row + 1], k, point)
    return times


def recall_of(index, vectors: np.ndarray, queries: np.ndarray, k: int, **point) -> float:
    """Recall@k of an index by the distances of `vectors`, which need not be those it was built of.

    With the vectors and queries of a new head and the index of the last, it says whether that index
    survives."""
    distances = distances_of(vectors, queries, index.query(queries, k, **point))
    return recall_at_k(distances, exact_neighbours(vectors, queries, k)[1], k)


def _measure(index, vectors, queries, truth, k, point, runs, n_single) -> dict:
    """One query point: recall by distance, then speed; the first, untimed call warms up."""
    distances = distances_of(vectors, queries, index.query(queries, k, **point))
    measured = {
        f"recall@{cut}": recall_at_k(distances, truth, cut)
        for cut in sorted({*[c for c in CUTS if c < k], k})
    }
    batch = len(queries) / np.array([_seconds(index, queries, k, point) for _ in range(runs)])
    singles = time_singles(index, queries[:n_single], k, point, runs)
    single = singles.shape[1] / singles.sum(axis=1)
    measured |= {"batch_qps": batch.max(), "batch_qps_lowest": batch.min()}
    measured |= {"single_qps": single.max(), "single_qps_lowest": single.min()}
    p50, p95, p99 = np.percentile(singles, [50, 95, 99]) * 1000
    return measured | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def _build(settings: IndexSettings, vectors: np.ndarray) -> tuple:
    """The index, and what it takes: seconds to build, bytes on disk, bytes of memory in a process
    that loads it.
    """
    start = time.perf_counter()
    index = indexes.find(settings.name)().build(vectors, **settings.build)
    took = {"build_seconds": time.perf_counter() - start, "bytes": np.nan, "memory_bytes": np.nan}
    if not index.remote:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            index.save(path)
            took |= {"bytes": path.stat().st_size, "memory_bytes": resident_bytes(path)}
    return index, took


class _Finished:
    """Rows of finished points, one JSON file each, so that a comparison that was stopped goes
    on.
    """

    def __init__(self, folder: Path | None, **same):
        self.folder, self.same = folder, same

    def _path(self, row: dict) -> Path:
        key = json.dumps(
            [row["index"], row["library"], row["build"], row["query"], self.same], sort_keys=True
        )
        return (
            Path(self.folder)
            / f"{row['index']}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        )

    def get(self, row: dict) -> dict | None:
        if self.folder and self._path(row).is_file():
            return json.loads(self._path(row).read_text())

    def put(self, row: dict) -> dict:
        if self.folder:
            write_atomic(self._path(row), json.dumps(row, indent=1, default=float))
        return row


def compare_indexes(
    vectors: np.ndarray,
    queries: np.ndarray,
    index_settings: Sequence[IndexSettings],
    k: int = 10,
    runs: int = 3,
    n_single: int = 200,
    folder: Path | None = None,
    progress=QUIET,
) -> pd.DataFrame:
    """Build each index once and measure it at each point of its sweep.

    Parameters
    ----------
    vectors : (n, d) float32 of length 1, the gallery
    queries : (n_queries, d) float32 of length 1, held out of the gallery
    index_settings : the indexes, their build arguments, and the values of the query arguments to
        sweep
    k : results a query
    runs : timings of each point; the best is given, and the lowest as its spread
    n_single : queries that are also asked one by one, on one thread
    folder : finished points are kept here, and not measured again for the same vectors, settings
        and versions
    progress : makes the bar that counts the points, e.g. ``tqdm``

    Returns
    -------
    DataFrame a row per index and query point: index, library (with its version), build, query (as
        JSON), n, dim, k, recall@..., build_seconds, batch_qps, single_qps (best), ..._lowest,
        p50_ms, p95_ms, p99_ms (of single queries), bytes (of the saved file, which of torch,
        pynndescent and Milvus Lite holds the vectors alone), memory_bytes (resident, in a fresh
        process that loaded and asked it), problem. An index whose library is missing, or whose
        server does not answer, has one row whose `problem` says what to do.

    Raises
    ------
    ValueError
        for an unknown index or argument, before anything is built.
    """
    vectors, queries = (np.ascontiguousarray(array, np.float32) for array in (vectors, queries))
    for settings in index_settings:
        indexes.check_arguments(settings.name, "build", settings.build)
        indexes.check_arguments(settings.name, "query", settings.query)
    if k > len(vectors):
        raise ValueError(f"k must be at most {len(vectors)}, the number of vectors, got {k}")
    same = {"vectors": indexes.fingerprint(vectors), "queries": indexes.fingerprint(queries)}
    finished = _Finished(folder, **same, k=k, runs=runs, n_single=n_single)
    truth, rows = exact_neighbours(vectors, queries, k)[1], []
    bar = progress(total=sum(len(points_of(settings)) for settings in index_settings), unit="point")
    for settings in index_settings:
        row = {
            "index": settings.name,
            "library": "",
            "build": json.dumps(settings.build, sort_keys=True),
        }
        row |= {"query": "{}", "n": len(vectors), "dim": vectors.shape[1], "k": k, "problem": ""}
        try:
            # imported before a timer starts
            row["library"] = indexes.find(settings.name).library_version()
        except indexes.MissingPackage as error:
            bar.update(len(points_of(settings)))
            rows.append(row | {"problem": str(error)})
            continue
        index = None
        for point in points_of(settings):
            row["query"] = json.dumps(point, sort_keys=True)
            if finished_row := finished.get(row):
                rows.append(finished_row)
                bar.update()
                continue
            if index is None:
                bar.set_postfix_str(f"building {settings.name} {row['build']}")
                try:
                    index, took = _build(settings, vectors)
                except indexes.Unreachable as error:
                    rows.append(row | {"query": "{}", "problem": str(error)})
                    break
            rows.append(
                finished.put(
                    row | took | _measure(index, vectors, queries, truth, k, point, runs, n_single)
                )
            )
            bar.set_postfix_str(
                f"{settings.name} {row['query']}: recall@{k} {rows[-1][f'recall@{k}']:.3f}"
            )
            bar.update()
    bar.close()
    return pd.DataFrame(rows)


def compare_filtered(
    vectors: np.ndarray,
    queries: np.ndarray,
    points: pd.DataFrame,
    k: int = 10,
    shares: Sequence[float] = (1, 0.5, 0.2, 0.1, 0.05, 0.02),
    seed: int = 0,
) -> pd.DataFrame:
    """How well indexes search among a part of the vectors, by how large that part is.

    The parts are drawn at random, one within the other; those of fewer than k vectors are left out,
    and so are indexes that cannot filter.

    Parameters
    ----------
    vectors, queries : as of ``compare_indexes``
    points : index, build, query (JSON) of the settings to try
    shares : of the vectors that are allowed

    Returns
    -------
    index, build, query, share, allowed (how many), recall@k among the allowed, ms (median of single
    queries, one thread)"""
    order, rows = np.random.default_rng(seed).permutation(len(vectors)), []
    sizes = {
        share: round(share * len(vectors)) for share in shares if round(share * len(vectors)) >= k
    }
    truths = {}
    for share, n in sizes.items():
        among = np.sort(order[:n])
        truths[share] = among, exact_neighbours(vectors[among], queries, k)[1]
    for point in points[["index", "build", "query"]].to_dict("records"):
        if "filter" not in indexes.find(point["index"]).can():
            continue
        index = indexes.find(point["index"])().build(vectors, **json.loads(point["build"]))
        for share, (among, truth) in truths.items():
            asked = json.loads(point["query"]) | ({} if share == 1 else {"allowed": among})
            distances = distances_of(vectors, queries, index.query(queries, k, **asked))
            seconds = np.median(time_singles(index, queries[:50], k, asked, 1))
            rows.append(
                {
                    **point,
                    "share": share,
                    "allowed": len(among),
                    f"recall@{k}": recall_at_k(distances, truth, k),
                    "ms": 1000 * seconds,
                }
            )
    return pd.DataFrame(
        rows, columns=["index", "build", "query", "share", "allowed", f"recall@{k}", "ms"]
    )
