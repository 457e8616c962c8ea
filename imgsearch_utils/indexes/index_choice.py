"""Choosing an index: the Pareto front, the recommendation, and up to which size exact search
wins.
"""

import json

import numpy as np
import pandas as pd

EXACT = ("exact", "torch", "faiss_gpu_exact")


def pareto(
    table: pd.DataFrame, recall: str | None = None, speed: str = "single_qps"
) -> pd.DataFrame:
    """The rows that no other row beats in both recall and speed, by rising recall.

    recall : a recall@... column; the one of the largest k when not given
    """
    recall = recall or f"recall@{table['k'].max()}"
    table = table.dropna(subset=[recall, speed]).sort_values([speed, recall], ascending=False)
    best_before = table[recall].cummax().shift(fill_value=-np.inf)
    return table[table[recall] > best_before].sort_values(recall)


def recommend(
    table: pd.DataFrame, recall: float, unnoticed_ms: float = 1.0, megabytes: float = 0
) -> dict:
    """The fastest index whose recall@k is at least `recall`, and that fits; exact search where that
    wins.

    Single queries are compared. Exact search misses nothing and needs no building. It wins in two
    cases: no index is faster by a tenth; or 95 % of its answers take less than `unnoticed_ms` (give
    0 to decide by speed alone).

    megabytes : memory that an index may take, as was measured in a process that loads it (column
        memory_bytes); 0: any. One on a server takes none here.

    Returns
    -------
    dict index, build, query (arguments), recall, speed (the row's queries per second), exact_speed,
        reason
    """
    column = f"recall@{table['k'].max()}"
    if column not in table:
        raise ValueError(f"nothing was measured: {'; '.join(table['problem'].unique())}")
    good = table[table[column] >= recall].sort_values(
        ["single_qps", "index"], ascending=[False, True]
    )
    if good.empty:
        reached = f"the best has {table[column].max():.3f}"
        raise ValueError(
            f"no index reached {column} of {recall}, {reached}; add exact, or sweep further"
        )
    if megabytes:
        takes = good["memory_bytes"].fillna(0) / 1e6
        if not (takes <= megabytes).any():
            raise ValueError(
                f"no index with {column} >= {recall} fits into {megabytes:g} MB; the smallest "
                "takes "
                f"{takes.min():.0f} MB. Allow more, or add one that reads from disk "
                "(faiss_ivf_disk)"
            )
        good = good[takes <= megabytes]
    best, exact = good.iloc[0], good[good["index"].isin(EXACT)]
    exact_speed, reason = float("nan"), f"the fastest with {column} >= {recall}"
    if len(exact):
        exact_speed, p95 = float(exact.iloc[0]["single_qps"]), exact.iloc[0]["p95_ms"]
        faster = best["single_qps"] / exact_speed
        reason += f", {faster:.1f} times as fast as exact search"
        if faster <= 1.1:
            best, reason = (
                exact.iloc[0],
                f"exact search: no index with {column} >= {recall} is faster by a tenth",
            )
        elif p95 < unnoticed_ms:
            best = exact.iloc[0]
            reason = (
                f"exact search: 95 % of its answers take under {p95:.2g} ms, and "
                f"{faster:.1f} times as fast saves"
            )
            reason += " nothing that anyone would notice"
    chosen = {
        "index": best["index"],
        "build": json.loads(best["build"]),
        "query": json.loads(best["query"]),
    }
    measured = {
        "recall": float(best[column]),
        "speed": float(best["single_qps"]),
        "exact_speed": exact_speed,
    }
    fits = f" that fits into {megabytes:g} MB" if megabytes else ""
    return chosen | measured | {"reason": f"{reason}{fits}, among {int(best['n'])} vectors"}


def recommend_by_size(table: pd.DataFrame, recall: float) -> pd.DataFrame:
    """`recommend` for each number of vectors in the table: up to which size exact search wins.

    Returns
    -------
    DataFrame n, then what `recommend` gives, by rising n; `exact` says whether exact search is
        recommended for n.
    """
    rows = [{"n": n, **recommend(of_size, recall)} for n, of_size in table.groupby("n")]
    return pd.DataFrame(rows).assign(exact=lambda chosen: chosen["index"].isin(EXACT))
