"""Numbers for pairs, for rankings and for nearest-neighbour search: arrays and tables in, numbers out."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import ir_measures
import numpy as np
import pandas as pd
from sklearn import metrics as sk

SIMILAR = 3
ENOUGH = 10  # similar pairs, and others, for an interval
GAINS = {grade: 2**grade - 1 for grade in range(SIMILAR + 1)}


def _two_classes(measure: Callable, similar: np.ndarray, score: np.ndarray) -> float:
    return float(measure(similar, score)) if 0 < similar.sum() < len(similar) else float("nan")


def _similar(grades: np.ndarray) -> np.ndarray:
    grades = np.asarray(grades, dtype=float)
    if not np.isin(grades, list(GAINS)).all():
        odd = grades[~np.isin(grades, list(GAINS))][0]
        raise ValueError(f"grades must be 0, 1, 2 or 3, got {odd:g}; drop pairs that were not asked yet")
    return grades == SIMILAR


def expected_calibration_error(similar: np.ndarray, p_similar: np.ndarray, bins: int = 10) -> float:
    """Mean distance of the predicted from the observed share in equally wide bins (Naeini et al., AAAI 2015).

    similar : (n,) bool
    p_similar : (n,) probabilities
    """
    place = np.minimum((np.asarray(p_similar) * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=np.asarray(p_similar) - np.asarray(similar), minlength=bins)
    return float(np.abs(gaps).sum() / len(place)) if len(place) else float("nan")


def pair_metrics(
    grades: np.ndarray,
    score: np.ndarray,
    p_similar: np.ndarray | None = None,
    threshold: float | None = None,
    same_class: np.ndarray | None = None,
) -> dict[str, float]:
    """How well a score finds the pairs of grade 3.

    Parameters
    ----------
    grades : (n,) 0..3
    score : (n,) larger for more similar
    p_similar : (n,) calibrated P(grade 3); with it ece is given, and with a threshold the figures of a decision
    threshold : p_similar at or above it is called similar
    same_class : (n,) bool; with it the ranking is measured on same-class pairs too

    Returns
    -------
    dict
        n, n_similar, roc_auc, ap (and same_class_...), ece, accuracy, precision, recall, f1;
        NaN where only one class of pairs is there.

    Raises
    ------
    ValueError
        for a grade outside 0..3, or arrays of different lengths.
    """
    similar, score = _similar(grades), np.asarray(score, dtype=float)
    given = {"score": score, "p_similar": p_similar, "same_class": same_class}
    for name, values in given.items():
        if values is not None and len(values) != len(similar):
            raise ValueError(f"{name} must have one value for each of the {len(similar)} grades, got {len(values)}")
    measured = {"n": len(similar), "n_similar": int(similar.sum())}
    sides = {"": np.ones(len(similar), bool)}
    if same_class is not None:
        sides["same_class_"] = np.asarray(same_class, bool)
    for prefix, side in sides.items():
        measured[f"{prefix}roc_auc"] = _two_classes(sk.roc_auc_score, similar[side], score[side])
        measured[f"{prefix}ap"] = _two_classes(sk.average_precision_score, similar[side], score[side])
    if p_similar is not None:
        measured["ece"] = expected_calibration_error(similar, p_similar)
    if p_similar is not None and threshold is not None:
        measured |= decision_metrics(similar, np.asarray(p_similar) >= threshold)
    return measured


def decision_metrics(similar: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of calling pairs similar; F1 is 0 where none of them is.

    similar, predicted : (n,) bool
    """
    precision, recall, f1, _ = sk.precision_recall_fscore_support(similar, predicted, average="binary", zero_division=0)
    return {
        "accuracy": float(np.mean(similar == predicted)) if len(similar) else float("nan"),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def trivial_baselines(grades: np.ndarray, same_class: np.ndarray) -> pd.DataFrame:
    """What needs no model: rows always-yes, always-no, same-class; columns accuracy, precision, recall, f1."""
    similar = _similar(grades)
    answers = {
        "always-yes": np.ones(len(similar), bool),
        "always-no": np.zeros(len(similar), bool),
        "same-class": np.asarray(same_class, bool),
    }
    return pd.DataFrame({name: decision_metrics(similar, answer) for name, answer in answers.items()}).T


def _drawn_groups(n_groups: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """`n` times: how often each group is drawn, when as many groups as there are are drawn with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)


def bootstrap(values: np.ndarray, groups: np.ndarray | None = None, n: int = 2000,
              seed: int = 0) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval, by `n` draws of whole groups; values that are NaN take no part.

    values : (m,) of queries, images, seeds or splits
    groups : (m,) the image group of each, so that near-duplicates are drawn together; each its own when not given
    Returns mean, low, high; NaN without a value, and for the interval of a single group.
    """
    values = np.asarray(values, float)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    values, groups = values[~np.isnan(values)], groups[~np.isnan(values)]
    sums = pd.Series(values).groupby(groups).agg(["sum", "size"]).to_numpy(float)
    if len(sums) < 2:
        return (float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    drawn = np.stack(list(_drawn_groups(len(sums), n, seed))) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def ap_gain(pairs: pd.DataFrame, score: np.ndarray, rival: np.ndarray) -> dict[str, float]:
    """Average precision of grade 3 by `score`, less that by `rival`, with a 95 % interval over image groups.

    The interval is the difference -+ 1.96 standard errors. A pair's influence is the derivative of the difference by
    the pair's weight (the infinitesimal jackknife: Jaeckel 1972); influences of pairs that share a group of images are
    correlated, and their products are added up, each once (the dyadic cluster-robust variance: Fafchamps & Gubert,
    Journal of Development Economics 83, 2007; Aronow, Samii & Assenova, Political Analysis 23, 2015).

    Parameters
    ----------
    pairs : similarity, and group1, group2: the groups of the pair's first and second image
    score, rival : (n_pairs,)

    Returns
    -------
    dict
        score (its AP), difference, low, high; all NaN where the pairs are of one kind only, and low and high NaN for
        fewer than ``ENOUGH`` pairs of either kind, from which no interval holds.
    """
    similar = _similar(pairs.similarity)
    if not 0 < similar.sum() < len(similar):
        return dict.fromkeys(("score", "difference", "low", "high"), float("nan"))
    (ap, influence), (other, others) = (_ap_influence(similar, np.asarray(s, float)) for s in (score, rival))
    error = _dyadic_error(influence - others, pairs.group1, pairs.group2)
    if min(similar.sum(), (~similar).sum()) < ENOUGH:
        error = float("nan")
    gain = ap - other
    return {"score": float(ap), "difference": float(gain), "low": float(gain - 1.96 * error),
            "high": float(gain + 1.96 * error)}


def _ap_influence(similar, score):
    """AP, and its derivative by the weight of each pair, (n,); equal scores are one threshold, as in scikit-learn."""
    order = np.argsort(-score, kind="stable")
    hit, ordered = similar[order].astype(float), score[order]
    end = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # the last place of each threshold
    of = np.searchsorted(end, np.arange(len(ordered)))
    hits, found = np.cumsum(hit)[end], end + 1.0
    added, precision, total = np.diff(hits, prepend=0.0), hits / found, hits[-1]
    ap = (added * precision).sum() / total
    rises, falls = (np.cumsum((added * part)[::-1])[::-1] / total for part in (1 / found, hits / found**2))
    influence = np.empty(len(score))
    influence[order] = np.where(hit > 0, (precision[of] - ap) / total + rises[of], 0) - falls[of]
    return ap, influence


def _dyadic_error(influence, group1, group2):
    """Standard error of a sum of influences of pairs (n,), of which those that share a group are correlated."""
    groups, place = np.unique(np.concatenate([group1, group2]), return_inverse=True)
    one, two = place.reshape(2, -1)
    by_group = np.bincount(one, influence, len(groups)) + np.bincount(two, influence * (one != two), len(groups))
    both, across = (by_group**2).sum(), one != two
    edges = np.unique(np.sort([one[across], two[across]], axis=0), axis=1, return_inverse=True)[1].ravel()
    variance = both - (np.bincount(edges, influence[across]) ** 2).sum()  # pairs that share both groups count once
    return np.sqrt(variance if variance > 0 else both)


def query_gain(pairs: pd.DataFrame, score: np.ndarray, rival: np.ndarray, k: int = 10) -> pd.DataFrame:
    """What a user sees: the order within one query's judged results, by `score` and by `rival`.

    Each image of a pair is once the query and once a result; queries whose judged results are all of one grade say
    nothing and are left out. The interval is the mean gain -+ 1.96 standard errors, in which queries are correlated
    that are of one group of images or of two that a pair connects (as in ``ap_gain``).

    Parameters
    ----------
    pairs : image1, image2, similarity, and group1, group2, as for ``ap_gain``
    score, rival : (n_pairs,)

    Returns
    -------
    measure (nDCG@k, AP), queries, score, rival (means), difference, low, high; low and high are NaN for fewer than
    ``ENOUGH`` queries
    """
    both = pd.concat([pairs.rename(columns={"image1": "query", "image2": "image", "group1": "group"}),
                      pairs.rename(columns={"image2": "query", "image1": "image", "group2": "group"})])
    both = both.assign(score=np.tile(score, 2), rival=np.tile(rival, 2), grade=both.similarity)
    both = both[both.groupby("query").grade.transform("nunique") > 1].drop_duplicates(["query", "image"])
    grades, group, found = both[["query", "image", "grade"]], both.groupby("query").group.first(), {}
    for name in ("score", "rival"):
        run = both[["query", "image"]].assign(score=both[name])
        found[name] = retrieval_metrics(run, grades, [k]).set_index("query") if len(run) else pd.DataFrame()
    rows = []
    for measure in (f"nDCG@{k}", "AP"):
        one, two = (found[name].get(measure, pd.Series(dtype=float)).dropna() for name in ("score", "rival"))
        gain = one - two
        error = _query_error(gain, group.reindex(gain.index), pairs)
        rows.append((measure, len(gain), one.mean(), two.mean(), gain.mean(), gain.mean() - 1.96 * error,
                     gain.mean() + 1.96 * error))
    return pd.DataFrame(rows, columns=["measure", "queries", "score", "rival", "difference", "low", "high"])


def _query_error(gain, group, pairs):
    """Standard error of a mean over queries, those being correlated whose groups are one or stand in one pair."""
    if len(gain) < ENOUGH:
        return np.nan
    influence = ((gain - gain.mean()) / len(gain)).groupby(group).sum()
    own = (influence**2).sum()
    known = influence.to_dict()
    edges = {(min(a, b), max(a, b)) for a, b in zip(pairs.group1, pairs.group2) if a != b and a in known and b in known}
    both = own + 2 * math.fsum(known[a] * known[b] for a, b in edges)
    return np.sqrt(max(own, both))


def _ranked(run: pd.DataFrame) -> pd.DataFrame:
    """Best first, equal scores by name; the score becomes -rank, so that no library breaks ties in its own way."""
    if run.duplicated(["query", "image"]).any():
        twice = run[run.duplicated(["query", "image"])].iloc[0]
        raise ValueError(f"run must name an image once for a query, got {twice['image']} twice for {twice['query']}")
    if run["score"].isna().any():
        query = run["query"][run["score"].isna()].iloc[0]
        raise ValueError(f"run must have a score in every row, got NaN for query {query}")
    run = run.sort_values(["query", "score", "image"], ascending=[True, False, True])
    return run.assign(rank=run.groupby("query").cumcount())


def retrieval_metrics(run: pd.DataFrame, grades: pd.DataFrame, k: Sequence[int], more: bool = False) -> pd.DataFrame:
    """P@k, nDCG@k, judged@k and AP of every query, by ir-measures on the condensed list.

    Unjudged results are taken out of the list before anything is counted, never read as grade 0 (the condensed list:
    Sakai, SIGIR 2007); judged@k, the share of judged among the first k of the list as it was, says how much that
    was. Equal scores are ordered by image name. Relevant means grade 3.

    - P@k: relevant among the first k judged, divided by k or by the number of judged results where fewer were found.
    - nDCG@k: gain 2^grade - 1, discount log2(rank + 1), ideal over all judged of the query (``exp-log2``: Burges et
      al., ICML 2005). ir-measures computes its own ``exp-log2`` by a Perl script rounded to five digits, so its
      ``log2`` form is used with these gains, which is the same formula.
    - AP: divided by the number of relevant judged of the query, found or not.
    - AP@k: the same of the first k judged, divided by that number too; R-precision: P@R, R being that number.

    Parameters
    ----------
    run : columns query, image, score; one query's own image should not be in its list
    grades : columns query, image, grade (0..3); a query without any is left out
    more : AP@k and R-precision too

    Returns
    -------
    DataFrame
        one row a query: query, n_judged, n_relevant, then P@k, nDCG@k, judged@k for each k, and AP; perhaps AP@k for
        each k, and R-precision. NaN where undefined: P@k without judged results, the others without relevant, nDCG
        with all grades 0.
    """
    if grades.duplicated(["query", "image"]).any():
        twice = grades[grades.duplicated(["query", "image"])].iloc[0]
        raise ValueError(f"grades must be one a pair, got two for query {twice['query']}, image {twice['image']}")
    judged = grades.assign(relevance=grades["grade"].astype(int), relevant=_similar(grades["grade"]))
    ranked = _ranked(run[run["query"].isin(judged["query"])])
    condensed = ranked.merge(judged, on=["query", "image"]).assign(score=lambda rows: -rows["rank"].astype(float))

    table = judged.groupby("query").agg(n_judged=("image", "size"), n_relevant=("relevant", "sum"))
    measures = {"AP": ir_measures.AP(rel=SIMILAR)}
    for cut in k:
        measures |= {f"P@{cut}": ir_measures.P(rel=SIMILAR) @ cut, f"nDCG@{cut}": ir_measures.nDCG(gains=GAINS) @ cut}
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
        table[f"nDCG@{cut}"] = table[f"nDCG@{cut}"].where(judged.groupby("query")["grade"].max() > 0)
        first = ranked[ranked["rank"] < cut].merge(judged, on=["query", "image"], how="left")
        table[f"judged@{cut}"] = first["grade"].notna().groupby(first["query"]).mean()
    for name in ("AP", *extra):
        table[name] = table[name].where(table["n_relevant"] > 0)
    order = [f"{name}@{cut}" for name in ("P", "nDCG", "judged") for cut in k]
    return table[["n_judged", "n_relevant", *order, "AP", *extra]].reset_index()


def recall_at_k(found_distances: np.ndarray, true_distances: np.ndarray, k: int, slack: float = 1e-6) -> float:
    """Share of the k results at most as far as the true k-th neighbour, so that ties count for either of the tied.

    The definition of ann-benchmarks (Aumueller, Bernhardsson & Faithfull, Information Systems 87, 2020).

    Parameters
    ----------
    found_distances : (n_queries, >= k) of distinct results, best first; NaN where fewer than k were found
    true_distances : (n_queries, >= k) of the exact neighbours, ascending
    slack : what rounding may add to a distance
    """
    for name, distances in (("found_distances", found_distances), ("true_distances", true_distances)):
        if np.ndim(distances) != 2 or np.shape(distances)[1] < k:
            raise ValueError(f"{name} must be (n_queries, at least k = {k}), got {np.shape(distances)}")
    return float(np.mean(found_distances[:, :k] <= true_distances[:, k - 1, None] + slack))


def class_confusion(query_classes: Sequence[str], found_classes: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Of the results for queries of a class (row), the share that is of each class (column).

    query_classes : (n_queries,)
    found_classes : (n_queries, k)
    """
    results = np.asarray(found_classes)
    asked = np.repeat(np.asarray(query_classes), results.shape[1])
    return pd.crosstab(
        pd.Series(asked, name="query class"), pd.Series(results.ravel(), name="result class"), normalize="index"
    )


class Ceiling(NamedTuple):
    """How well a person's grade predicts a grade: the best that can be asked of a model.

    f1 : of "similar" by one grading against the other, the same both ways; NaN without a similar pair
    pairs : how many were graded twice
    """

    f1: float
    pairs: int


def grading_ceiling(first: list[float], second: list[float]) -> Ceiling:
    """From two gradings of the same pairs, (n,) grades each."""
    similar = [[grade == 3 for grade in grades] for grades in (first, second)]
    return Ceiling(float(sk.f1_score(*similar, zero_division=np.nan)) if first else np.nan, len(first))
