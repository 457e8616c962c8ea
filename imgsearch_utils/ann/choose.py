"""Choosing an index: the Pareto front, the recommendation, what it costs in relevance and from which size on."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from .. import indexes
from ..metrics import retrieval_metrics
from ..study import IndexSettings
from .compare import points_of

EXACT = ("exact", "torch", "faiss_gpu_exact")


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

    Exact search misses nothing and needs no building. It wins in two cases: no index is faster by a tenth; or, for
    single queries, 95 % of its answers take less than `unnoticed_ms` (give 0 to decide by speed alone).

    Returns
    -------
    dict
        index, build, query (arguments), recall, speed (the row's queries per second), exact_speed, reason
    """
    column = f"recall@{table['k'].max()}"
    if column not in table:
        raise ValueError(f"nothing was measured: {'; '.join(table['problem'].unique())}")
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


def recommend_by_size(table: pd.DataFrame, recall: float, **rule) -> pd.DataFrame:
    """`recommend` for each number of vectors in the table: up to which size exact search wins.

    Returns
    -------
    DataFrame
        n, then what `recommend` gives, by rising n; `exact` says whether exact search is recommended for n.
    """
    rows = [{"n": n, **recommend(of_size, recall, **rule)} for n, of_size in table.groupby("n")]
    return pd.DataFrame(rows).assign(exact=lambda chosen: chosen["index"].isin(EXACT))


def relevance_lost(
    vectors: np.ndarray,
    names: Sequence[str],
    queries: np.ndarray,
    query_names: Sequence[str],
    grades: pd.DataFrame,
    index_settings: Sequence[IndexSettings],
    k: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """What an index loses against exact search in the eyes of people, not of distances: nDCG@k and AP of its first k.

    Parameters
    ----------
    vectors, queries : (n, d) and (n_queries, d) float32 of length 1
    names, query_names : their images; a query's own image is taken out of its results
    grades : columns query, image, grade
    index_settings : as for `compare_indexes`; each point of each sweep is measured

    Returns
    -------
    DataFrame
        a row per index and point: index, build, query, and for nDCG@k and AP the mean (`nDCG`, `AP`), the mean loss
        against exact search (`nDCG_lost`, positive: worse) and its 95 % interval by bootstrap over queries
        (`..._low`, `..._high`); n_queries those with a defined nDCG; judged the mean share of judged among the first k.
    """
    names, asked = np.asarray(names), np.asarray(query_names)
    depth = min(k + 1, len(vectors))

    def measured(index, point):
        ids = index.query(np.ascontiguousarray(queries, np.float32), depth, **point)
        scores = np.tile(-np.arange(depth), len(asked))
        run = pd.DataFrame({"query": np.repeat(asked, depth), "id": ids.ravel(), "score": scores})
        run = run[run["id"] >= 0].assign(image=lambda rows: names[rows["id"]])
        run = run[run["image"] != run["query"]].groupby("query").head(k)
        return retrieval_metrics(run, grades[grades["query"].isin(asked)], [k]).set_index("query")

    best, rows = measured(indexes.find("exact")().build(vectors), {}), []
    for settings in index_settings:
        index = indexes.find(settings.name)().build(vectors, **settings.build)
        for point in points_of(settings):
            found = measured(index, point)
            row = {"index": settings.name, "build": json.dumps(settings.build, sort_keys=True)}
            row |= {"query": json.dumps(point, sort_keys=True), "n_queries": int(found[f"nDCG@{k}"].notna().sum())}
            for name, column in (("nDCG", f"nDCG@{k}"), ("AP", "AP")):
                lost = (best[column] - found[column]).dropna().to_numpy()
                row |= {name: found[column].mean(), f"{name}_lost": lost.mean() if len(lost) else np.nan}
                row |= dict.fromkeys((f"{name}_low", f"{name}_high"), np.nan)
                if len(lost) > 1:
                    spread = bootstrap((lost,), np.mean, n_resamples=1000, method="percentile", rng=seed)
                    row[f"{name}_low"], row[f"{name}_high"] = spread.confidence_interval
            rows.append(row | {"judged": found[f"judged@{k}"].mean()})
    return pd.DataFrame(rows)
