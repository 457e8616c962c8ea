"""Comparing nearest-neighbour indexes as ann-benchmarks and VIBE do, and choosing one.

Truth is computed here; indexes only name ids, whose distances are computed here again, outside the timer. Build
arguments are apart from query arguments: one build, many query points.
"""

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from . import indexes
from .metrics import recall_at_k
from .study import IndexSettings

CUTS = (1, 5, 10, 20, 50, 100)  # recall@k is given for those up to k, and for k
EXACT = ("exact", "torch")


def hold_out(n: int, n_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (gallery, queries) of n vectors: queries are held out of the index."""
    if not 0 < n_queries < n:
        raise ValueError(f"n_queries must be 1 to {n - 1}, to leave vectors to search among, got {n_queries}")
    rows = np.random.default_rng(seed).permutation(n)
    return np.sort(rows[n_queries:]), np.sort(rows[:n_queries])


def distances_of(vectors: np.ndarray, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Cosine distances 1 - cos of the results, recomputed; NaN where an index found nothing (-1).

    Raises
    ------
    ValueError
        for ids that are duplicated in a query's results, or that no vector has.
    """
    found = ids >= 0
    if ids.min(initial=0) < -1 or ids.max(initial=0) >= len(vectors):
        odd = ids[(ids < -1) | (ids >= len(vectors))][0]
        raise ValueError(f"expected ids 0 to {len(vectors) - 1} (or -1: not found), got {odd}")
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        query, place = np.argwhere(twice)[0]
        raise ValueError(f"expected distinct ids, got {ordered[query, place]} twice for query {query}")
    distances = np.empty(ids.shape)
    for row, query in enumerate(queries):
        distances[row] = 1 - vectors[ids[row]] @ query
    return np.where(found, distances, np.nan)


def exact_distances(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Cosine distances of the k true neighbours of each query, ascending: (n_queries, k)."""
    return np.sort(distances_of(vectors, queries, indexes.find("exact")().build(vectors).query(queries, k)), axis=1)


def _points(settings: IndexSettings) -> list[dict]:
    """Every combination of the query arguments that are swept; the index's own sweep when none is given."""
    sweep = settings.query or indexes.find(settings.name).default_sweep
    return [dict(zip(sweep, values)) for values in itertools.product(*sweep.values())]


def _time_batch(index, queries, k, point, runs) -> list[float]:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        index.query(queries, k, **point)
        times.append(time.perf_counter() - start)
    return times


def time_singles(index, queries, k, point, runs) -> np.ndarray:
    """Seconds of each query alone, one thread: (runs, n_queries)."""
    times = np.empty((runs, len(queries)))
    with threadpool_limits(1):
        for run, row in itertools.product(range(runs), range(len(queries))):
            start = time.perf_counter()
            index.query(queries[row : row + 1], k, **point)
            times[run, row] = time.perf_counter() - start
    return times


def _measure(index, vectors, queries, truth, k, point, runs, n_single) -> dict:
    """One query point: recall by distance, then speed; the first, untimed call warms up."""
    found = distances_of(vectors, queries, index.query(queries, k, **point))
    measured = {f"recall@{cut}": recall_at_k(found, truth, cut) for cut in sorted({*[c for c in CUTS if c < k], k})}
    batch = len(queries) / np.array(_time_batch(index, queries, k, point, runs))
    singles = time_singles(index, queries[:n_single], k, point, runs)
    single = singles.shape[1] / singles.sum(axis=1)
    measured |= {"batch_qps": batch.max(), "batch_qps_lowest": batch.min()}
    measured |= {"single_qps": single.max(), "single_qps_lowest": single.min()}
    p50, p95, p99 = np.percentile(singles, [50, 95, 99]) * 1000
    return measured | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def compare_indexes(
    vectors: np.ndarray,
    queries: np.ndarray,
    index_settings: Sequence[IndexSettings],
    k: int = 10,
    runs: int = 3,
    n_single: int = 200,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Build each index once and measure it at each point of its sweep.

    Parameters
    ----------
    vectors : (n, d) float32 of length 1, the gallery
    queries : (n_queries, d) float32 of length 1, held out of the gallery
    index_settings : the indexes, their build arguments, and the values of the query arguments to sweep
    k : results a query
    runs : timings of each point; the best is given, and the lowest as its spread
    n_single : queries that are also asked one by one, on one thread
    progress : called with a line when a build begins and when a point is measured

    Returns
    -------
    DataFrame
        a row per index and query point: index, build, query (as JSON), n, dim, k, recall@..., build_seconds,
        batch_qps, single_qps (best), ..._lowest, p50_ms, p95_ms, p99_ms (of single queries), bytes (on disk), problem.
        An index whose library is missing has one row whose `problem` holds the line that installs it.

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
    truth = exact_distances(vectors, queries, k)
    rows = []
    for settings in index_settings:
        row = {"index": settings.name, "build": json.dumps(settings.build, sort_keys=True), "query": "{}"}
        row |= {"n": len(vectors), "dim": vectors.shape[1], "k": k}
        progress(f"building {settings.name} {row['build']}")
        kind = indexes.find(settings.name)
        try:
            kind.library()  # imported before the timer starts
            start = time.perf_counter()
            index = kind().build(vectors, **settings.build)
            row["build_seconds"] = time.perf_counter() - start
        except indexes.MissingPackage as error:
            progress(str(error))
            rows.append(row | {"problem": str(error)})
            continue
        with tempfile.TemporaryDirectory() as folder:
            index.save(Path(folder) / "index")
            row["bytes"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        for point in _points(settings):
            row |= {"query": json.dumps(point, sort_keys=True), "problem": ""}
            rows.append(row | _measure(index, vectors, queries, truth, k, point, runs, n_single))
            progress(f"{settings.name} {row['query']}: recall@{k} {rows[-1][f'recall@{k}']:.3f}")
    return pd.DataFrame(rows)


def pareto(table: pd.DataFrame, recall: str | None = None, speed: str = "single_qps") -> pd.DataFrame:
    """The rows that no other row beats in both recall and speed, by rising recall.

    recall : a recall@... column; the one of the largest k when not given
    """
    recall = recall or f"recall@{table['k'].max()}"
    table = table.dropna(subset=[recall, speed]).sort_values([speed, recall], ascending=False)
    best_before = table[recall].cummax().shift(fill_value=-np.inf)
    return table[table[recall] > best_before].sort_values(recall)


def recommend(table: pd.DataFrame, recall: float, speed: str = "single_qps", unnoticed_ms: float = 1.0) -> dict:
    """The fastest index whose recall@k is at least `recall`; exact search where that wins.

    Exact search wins when nothing is faster by a tenth, and, for single queries, when 95 % of its answers take less
    than `unnoticed_ms`: it misses nothing and needs no building. Give 0 to decide by speed alone.

    Returns
    -------
    dict
        index, build, query (arguments), recall, speed (the row's queries per second), exact_speed, reason
    """
    column = f"recall@{table['k'].max()}"
    good = table[table[column] >= recall].sort_values([speed, "index"], ascending=[False, True])
    if good.empty:
        reached = f"the best has {table[column].max():.3f}"
        raise ValueError(f"no index reached {column} of {recall}, {reached}; add exact, or sweep further")
    best, exact = good.iloc[0], good[good["index"].isin(EXACT)]
    exact_speed, reason = float("nan"), f"the fastest with {column} >= {recall}"
    if len(exact):
        exact_speed, p95 = float(exact.iloc[0][speed]), exact.iloc[0]["p95_ms"]
        faster = best[speed] / exact_speed
        reason += f", {faster:.1f} times as fast as exact search"
        if faster <= 1.1:
            best, reason = exact.iloc[0], f"exact search: no index with {column} >= {recall} is faster by a tenth"
        elif speed == "single_qps" and p95 < unnoticed_ms:
            best = exact.iloc[0]
            reason = f"exact search: 95 % of its answers take under {p95:.2g} ms, and {faster:.1f} times as fast saves"
            reason += " nothing that anyone would notice"
    chosen = {"index": best["index"], "build": json.loads(best["build"]), "query": json.loads(best["query"])}
    measured = {"recall": float(best[column]), "speed": float(best[speed]), "exact_speed": exact_speed}
    return chosen | measured | {"reason": f"{reason}, among {int(best['n'])} vectors"}
