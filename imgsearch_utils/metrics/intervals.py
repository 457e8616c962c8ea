"""What a mean or a gain is worth: 95 % intervals over groups of images, or over splits of them."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from imgsearch_utils.metrics.pair_metrics import graded_similar
from imgsearch_utils.metrics.ranking_metrics import retrieval_metrics

ENOUGH = 10  # similar pairs, and others, for an interval


def _drawn_groups(n_groups: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """`n` times: how often each group is drawn, when as many groups as there are are drawn with
    replacement.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)


def bootstrap(
    values: np.ndarray, groups: np.ndarray | None = None, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval, by `n` draws of whole groups; values that are NaN
    take no part.

    values : (m,) of queries or images; for seeds that split one data set anew: ``over_splits``
    groups : (m,) the image group of each, so that near-duplicates are drawn together; each its own
    when not given Returns mean, low, high; NaN without a value, and for the interval of a single
    group."""
    values = np.asarray(values, float)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    values, groups = values[~np.isnan(values)], groups[~np.isnan(values)]
    sums = pd.Series(values).groupby(groups).agg(["sum", "size"]).to_numpy(float)
    if len(sums) < 2:
        return (float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    drawn = np.stack(list(_drawn_groups(len(sums), n, seed))) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def mean_gain(gains: np.ndarray) -> dict[str, float]:
    """Mean of independent gains (n,), its 95 % interval by Student's t, and `chance`: how often as
    large a mean comes where there is no gain.

    Returns
    -------
    dict difference, low, high, chance; the last three NaN for fewer than two gains, and for gains
        that are all the same
    """
    gains = np.asarray(gains, float)
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    mean = float(gains.mean()) if len(gains) else float("nan")
    if not error:
        return {"difference": mean, **dict.fromkeys(("low", "high", "chance"), float("nan"))}
    free = len(gains) - 1
    reach, chance = float(stdtrit(free, 0.975) * error), float(stdtr(free, -mean / error))
    return {"difference": mean, "low": mean - reach, "high": mean + reach, "chance": chance}


def over_splits(values: np.ndarray, test_share: float) -> tuple[float, float, float]:
    """Mean of a difference over random splits of one data set and its 95 % interval, corrected for
    what the splits share.

    Two splits have most of their training examples in common, and some of their test examples, so
    their differences are correlated, and a bootstrap or a t test over splits is too sure. Here the
    variance of the mean of J differences is (1/J + n_test/n_train) times their sample variance, and
    the interval is Student's with J - 1 degrees of freedom (the corrected resampled t test: Nadeau
    & Bengio, Inference for the generalization error, Machine Learning 52, 2003). It is of the
    difference on other data of the same kind, of models trained on as many.

    Parameters
    ----------
    values : (n_splits,), one difference a split; those that are NaN take no part
    test_share : share of the examples (here: of the images) that stands on the test side, above 0
        and below 1; the others train

    Returns
    -------
    mean, low, high; NaN without a value, and for the interval of a single split.

    Raises
    ------
    ValueError for a share outside of that range.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must lie between 0 and 1, got {test_share}")
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    shared = test_share / (1 - test_share)
    error = np.sqrt((1 / len(values) + shared) * values.var(ddof=1))
    reach, mean = float(stdtrit(len(values) - 1, 0.975) * error), float(values.mean())
    return mean, mean - reach, mean + reach


def ap_gain(
    pairs: pd.DataFrame, score: np.ndarray, rival: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Average precision of grade 3 by `score`, less that by `rival`, with a 95 % interval over
    image groups.

    The interval is the difference -+ 1.96 standard errors. A pair's influence is the derivative of
    the difference by the pair's weight (the infinitesimal jackknife: Jaeckel 1972); influences of
    pairs that share a group of images are correlated, and their products are added up, each once
    (the dyadic cluster-robust variance: Fafchamps & Gubert, Journal of Development Economics 83,
    2007; Aronow, Samii & Assenova, Political Analysis 23, 2015).

    Parameters
    ----------
    pairs : similarity, and group1, group2: the groups of the pair's first and second image
    score, rival : (n_pairs,)
    weight : (n_pairs,) how many pairs each stands for, where not all were as likely to be asked

    Returns
    -------
    dict score (its AP), difference, low, high; all NaN where the pairs are of one kind only, and
        low and high NaN for fewer than ``ENOUGH`` pairs of either kind, from which no interval
        holds.
    """
    similar = graded_similar(pairs.similarity)
    if not 0 < similar.sum() < len(similar):
        return dict.fromkeys(("score", "difference", "low", "high"), float("nan"))
    weight = np.ones(len(similar)) if weight is None else np.asarray(weight, float)
    (ap, influence), (other, others) = (
        _ap_influence(similar, np.asarray(s, float), weight) for s in (score, rival)
    )
    error = _dyadic_error(influence - others, pairs.group1, pairs.group2)
    if min(similar.sum(), (~similar).sum()) < ENOUGH:
        error = float("nan")
    gain = ap - other
    return {
        "score": float(ap),
        "difference": float(gain),
        "low": float(gain - 1.96 * error),
        "high": float(gain + 1.96 * error),
    }


def _ap_influence(similar, score, weight):
    """AP, and the weight of each pair times AP's derivative by it, (n,); equal scores are one
    threshold, as in scikit-learn.
    """
    order = np.argsort(-score, kind="stable")
    hit, ordered, weight = similar[order].astype(float), score[order], weight[order]
    # the last place of each threshold
    end = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    of = np.searchsorted(end, np.arange(len(ordered)))
    hits, found = np.cumsum(weight * hit)[end], np.cumsum(weight)[end]
    added, precision, total = np.diff(hits, prepend=0.0), hits / found, hits[-1]
    ap = (added * precision).sum() / total
    rises, falls = (
        np.cumsum((added * part)[::-1])[::-1] / total for part in (1 / found, hits / found**2)
    )
    influence = np.empty(len(score))
    derivative = np.where(hit > 0, (precision[of] - ap) / total + rises[of], 0) - falls[of]
    influence[order] = weight * derivative
    return ap, influence


def _dyadic_error(influence, group1, group2):
    """Standard error of a sum of influences of pairs (n,), of which those that share a group are
    correlated.
    """
    groups, place = np.unique(np.concatenate([group1, group2]), return_inverse=True)
    one, two = place.reshape(2, -1)
    by_group = np.bincount(one, influence, len(groups)) + np.bincount(
        two, influence * (one != two), len(groups)
    )
    both, across = (by_group**2).sum(), one != two
    edges = np.unique(np.sort([one[across], two[across]], axis=0), axis=1, return_inverse=True)[
        1
    ].ravel()
    # pairs that share both groups count once
    variance = both - (np.bincount(edges, influence[across]) ** 2).sum()
    return np.sqrt(variance if variance > 0 else both)


def query_gain(
    pairs: pd.DataFrame, score: np.ndarray, rival: np.ndarray, k: int = 10
) -> pd.DataFrame:
    """What a user sees: the order within one query's judged results, by `score` and by `rival`.

    Each image of a pair is once the query and once a result; queries whose judged results are all
    of one grade say nothing and are left out. The interval is the mean gain -+ 1.96 standard
    errors, in which queries are correlated that are of one group of images or of two that a pair
    connects (as in ``ap_gain``).

    Parameters
    ----------
    pairs : image1, image2, similarity, and group1, group2, as for ``ap_gain``
    score, rival : (n_pairs,)

    Returns
    -------
    measure (nDCG@k, AP), queries, score, rival (means), difference, low, high; low and high are NaN
    for fewer than ``ENOUGH`` queries"""
    gains = query_gains(pairs, {"score": score, "rival": rival}, "rival", k)
    return gains[gains.of == "score"].drop(columns="of")


def query_gains(
    pairs: pd.DataFrame, scores: dict[str, np.ndarray], rival: str, k: int = 10
) -> pd.DataFrame:
    """``query_gain`` of each of the scores (n_pairs,) over the one named `rival`; the column `of`
    is a score's name.
    """
    pairs = pairs[["image1", "image2", "similarity", "group1", "group2"]]
    both = pd.concat(
        [
            pairs.rename(columns={"image1": "query", "image2": "image", "group1": "group"}),
            pairs.rename(columns={"image2": "query", "image1": "image", "group2": "group"}),
        ]
    )
    both = both.assign(grade=both.similarity, row=np.tile(np.arange(len(pairs)), 2))
    both = both[both.groupby("query").grade.transform("nunique") > 1].drop_duplicates(
        ["query", "image"]
    )
    grades, group = both[["query", "image", "grade"]], both.groupby("query").group.first()

    def found(values):
        run = both[["query", "image"]].assign(score=np.asarray(values)[both.row])
        return (
            retrieval_metrics(run, grades, [k]).set_index("query") if len(run) else pd.DataFrame()
        )

    measured, rows = {name: found(score) for name, score in scores.items()}, []
    for name, of_score in measured.items():
        for measure in (f"nDCG@{k}", "AP"):
            one, two = (
                table.get(measure, pd.Series(dtype=float)).dropna()
                for table in (of_score, measured[rival])
            )
            gain = one - two
            error = _query_error(gain, group.reindex(gain.index), pairs)
            rows.append(
                (
                    name,
                    measure,
                    len(gain),
                    one.mean(),
                    two.mean(),
                    gain.mean(),
                    gain.mean() - 1.96 * error,
                    gain.mean() + 1.96 * error,
                )
            )
    return pd.DataFrame(
        rows, columns=["of", "measure", "queries", "score", "rival", "difference", "low", "high"]
    )


def _query_error(gain, group, pairs):
    """Standard error of a mean over queries, those being correlated whose groups are one or stand
    in one pair.
    """
    if len(gain) < ENOUGH:
        return np.nan
    influence = ((gain - gain.mean()) / len(gain)).groupby(group).sum()
    own = (influence**2).sum()
    influence_of = influence.to_dict()
    edges = {
        (min(a, b), max(a, b))
        for a, b in zip(pairs.group1, pairs.group2)
        if a != b and a in influence_of and b in influence_of
    }
    both = own + 2 * math.fsum(influence_of[a] * influence_of[b] for a, b in edges)
    return np.sqrt(max(own, both))
