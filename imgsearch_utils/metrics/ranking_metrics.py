"""How well a query's results are ordered."""

from collections.abc import Sequence

import ir_measures
import numpy as np
import pandas as pd

from imgsearch_utils.metrics.pair_metrics import GAINS, SIMILAR, graded_similar


def _ranked(run: pd.DataFrame) -> pd.DataFrame:
    """Best first, equal scores by name; the score becomes -rank, so that no library breaks ties in
    its own way.
    """
    if run.duplicated(["query", "image"]).any():
        twice = run[run.duplicated(["query", "image"])].iloc[0]
        raise ValueError(
            f"run must name an image once for a query, got {twice['image']} twice for "
            f"{twice['query']}"
        )
    if run["score"].isna().any():
        query = run["query"][run["score"].isna()].iloc[0]
        raise ValueError(f"run must have a score in every row, got NaN for query {query}")
    run = run.sort_values(["query", "score", "image"], ascending=[True, False, True])
    return run.assign(rank=run.groupby("query").cumcount())


def retrieval_metrics(
    run: pd.DataFrame, grades: pd.DataFrame, k: Sequence[int], more: bool = False
) -> pd.DataFrame:
    """P@k, nDCG@k, judged@k and AP of every query, by ir-measures on the condensed list.

    Unjudged results are taken out of the list before anything is counted, never read as grade 0
    (the condensed list: Sakai, SIGIR 2007); judged@k, the share of judged among the first k of the
    list as it was, says how much that was. Equal scores are ordered by image name. Relevant means
    grade 3.

    - P@k: relevant among the first k judged, divided by k or by the number of judged results where
      fewer were found.
    - nDCG@k: gain 2^grade - 1, discount log2(rank + 1), ideal over all judged of the query
      (``exp-log2``: Burges et al., ICML 2005). ir-measures computes its own ``exp-log2`` by a Perl
      script rounded to five digits, so its ``log2`` form is used with these gains, which is the
      same formula.
    - AP: divided by the number of relevant judged of the query, found or not.
    - AP@k: the same of the first k judged, divided by that number too; R-precision: P@R, R being
      that number.

    Parameters
    ----------
    run : columns query, image, score; one query's own image should not be in its list
    grades : columns query, image, grade (0..3); a query without any is left out
    more : AP@k and R-precision too

    Returns
    -------
    DataFrame one row a query: query, n_judged, n_relevant, then P@k, nDCG@k, judged@k for each k,
        and AP; perhaps AP@k for each k, and R-precision. NaN where undefined: P@k without judged
        results, the others without relevant, nDCG with all grades 0.
    """
    if grades.duplicated(["query", "image"]).any():
        twice = grades[grades.duplicated(["query", "image"])].iloc[0]
        raise ValueError(
            f"grades must be one a pair, got two for query {twice['query']}, image {twice['image']}"
        )
    judged = grades.assign(
        relevance=grades["grade"].astype(int), relevant=graded_similar(grades["grade"])
    )
    ranked = _ranked(run[run["query"].isin(judged["query"])])
    condensed = ranked.merge(judged, on=["query", "image"]).assign(
        score=lambda rows: -rows["rank"].astype(float)
    )

    table = judged.groupby("query").agg(n_judged=("image", "size"), n_relevant=("relevant", "sum"))
    measures = {"AP": ir_measures.AP(rel=SIMILAR)}
    for cut in k:
        measures |= {
            f"P@{cut}": ir_measures.P(rel=SIMILAR) @ cut,
            f"nDCG@{cut}": ir_measures.nDCG(gains=GAINS) @ cut,
        }
    extra = {f"AP@{cut}": ir_measures.AP(rel=SIMILAR) @ cut for cut in k} if more else {}
    extra |= {"R-precision": ir_measures.Rprec(rel=SIMILAR)} if more else {}
    measures |= extra
    columns = {"query": "query_id", "image": "doc_id"}
    lists = condensed[["query", "image", "score"]].rename(columns=columns)
    values = ir_measures.iter_calc(measures.values(), judged.rename(columns=columns), lists)
    by_query = {(value.query_id, str(value.measure)): value.value for value in values}
    for name, measure in measures.items():
        table[name] = [by_query.get((query, str(measure)), 0.0) for query in table.index]

    n_found = condensed.groupby("query").size().reindex(table.index, fill_value=0)
    for cut in k:
        table[f"P@{cut}"] *= cut / n_found.clip(upper=cut).where(n_found > 0)
        table[f"nDCG@{cut}"] = table[f"nDCG@{cut}"].where(
            judged.groupby("query")["grade"].max() > 0
        )
        first = ranked[ranked["rank"] < cut].merge(judged, on=["query", "image"], how="left")
        table[f"judged@{cut}"] = first["grade"].notna().groupby(first["query"]).mean()
    for name in ("AP", *extra):
        table[name] = table[name].where(table["n_relevant"] > 0)
    order = [f"{name}@{cut}" for name in ("P", "nDCG", "judged") for cut in k]
    return table[["n_judged", "n_relevant", *order, "AP", *extra]].reset_index()


def recall_at_k(
    found_distances: np.ndarray, true_distances: np.ndarray, k: int, slack: float = 1e-6
) -> float:
    """Share of the k results at most as far as the true k-th neighbour, so that ties count for
    either of the tied.

    The definition of ann-benchmarks (Aumueller, Bernhardsson & Faithfull, Information Systems 87,
    2020).

    Parameters
    ----------
    found_distances : (n_queries, >= k) of distinct results, best first; NaN where fewer than k were
        found
    true_distances : (n_queries, >= k) of the exact neighbours, ascending
    slack : what rounding may add to a distance
    """
    for name, distances in (
        ("found_distances", found_distances),
        ("true_distances", true_distances),
    ):
        if np.ndim(distances) != 2 or np.shape(distances)[1] < k:
            raise ValueError(
                f"{name} must be (n_queries, at least k = {k}), got {np.shape(distances)}"
            )
    return float(np.mean(found_distances[:, :k] <= true_distances[:, k - 1, None] + slack))


def class_confusion(
    query_classes: Sequence[str], found_classes: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Of the results for queries of a class (row), the share that is of each class (column).

    query_classes : (n_queries,)
    found_classes : (n_queries, k)
    """
    results = np.asarray(found_classes)
    asked = np.repeat(np.asarray(query_classes), results.shape[1])
    return pd.crosstab(
        pd.Series(asked, name="query class"),
        pd.Series(results.ravel(), name="result class"),
        normalize="index",
    )
