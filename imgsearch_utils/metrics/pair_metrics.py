"""How well a score finds the pairs that are similar, and how well it says so."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import metrics as sk

SIMILAR = 3
GAINS = {grade: 2**grade - 1 for grade in range(SIMILAR + 1)}


def graded_similar(grades: np.ndarray) -> np.ndarray:
    """Which of the grades, (n,) 0..3, are 3; a ValueError for any other number."""
    grades = np.asarray(grades, dtype=float)
    if not np.isin(grades, list(GAINS)).all():
        odd = grades[~np.isin(grades, list(GAINS))][0]
        raise ValueError(
            f"grades must be 0, 1, 2 or 3, got {odd:g}; drop pairs that were not asked yet"
        )
    return grades == SIMILAR


def _two_classes(measure: Callable, similar: np.ndarray, score: np.ndarray) -> float:
    return float(measure(similar, score)) if 0 < similar.sum() < len(similar) else float("nan")


def expected_calibration_error(similar: np.ndarray, p_similar: np.ndarray, bins: int = 10) -> float:
    """Mean distance of the predicted from the observed share in equally wide bins (Naeini et al.,
    AAAI 2015).

    similar : (n,) bool
    p_similar : (n,) probabilities
    """
    place = np.minimum((np.asarray(p_similar) * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=np.asarray(p_similar) - np.asarray(similar), minlength=bins)
    return float(np.abs(gaps).sum() / len(place)) if len(place) else float("nan")


class Chance(NamedTuple):
    """What a model whose P(similar) is right shows on so few pairs, by chance.

    ece : its expected calibration error in the mean
    ece_high : as large or smaller in 95 % of cases
    low, high : (bins,) of the observed share in each bin, 95 % interval; NaN in a bin without pairs
    """

    ece: float
    ece_high: float
    low: np.ndarray
    high: np.ndarray


def calibration_by_chance(
    p_similar: np.ndarray, bins: int = 10, n: int = 1000, seed: int = 0
) -> Chance:
    """Draw `n` times whether each pair is similar from its own probability, and measure each draw's
    calibration.

    (Consistency resampling: Broecker & Smith, Weather and Forecasting 22, 2007.)

    p_similar : (n_pairs,) probabilities
    """
    p, rng = np.asarray(p_similar, float), np.random.default_rng(seed)
    place = np.minimum((p * bins).astype(int), bins - 1)
    pairs, predicted = (np.bincount(place, weights, bins) for weights in (None, p))
    drawn_similar = np.stack([np.bincount(place, rng.random(len(p)) < p, bins) for _ in range(n)])
    errors = np.abs(drawn_similar - predicted).sum(1) / max(1, len(p))
    has_pairs = pairs > 0
    low, high = np.full((2, bins), np.nan)
    low[has_pairs], high[has_pairs] = np.quantile(
        drawn_similar[:, has_pairs] / pairs[has_pairs], [0.025, 0.975], axis=0
    )
    return Chance(float(errors.mean()), float(np.quantile(errors, 0.95)), low, high)


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
    p_similar : (n,) calibrated P(grade 3); with it ece is given, and with a threshold the figures
        of a decision
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
    similar, score = graded_similar(grades), np.asarray(score, dtype=float)
    given_columns = {"score": score, "p_similar": p_similar, "same_class": same_class}
    for name, values in given_columns.items():
        if values is not None and len(values) != len(similar):
            raise ValueError(
                f"{name} must have one value for each of the {len(similar)} grades, got "
                f"{len(values)}"
            )
    measured = {"n": len(similar), "n_similar": int(similar.sum())}
    splits = {"": np.ones(len(similar), bool)}
    if same_class is not None:
        splits["same_class_"] = np.asarray(same_class, bool)
    for prefix, split in splits.items():
        measured[f"{prefix}roc_auc"] = _two_classes(sk.roc_auc_score, similar[split], score[split])
        measured[f"{prefix}ap"] = _two_classes(
            sk.average_precision_score, similar[split], score[split]
        )
    if p_similar is not None:
        measured["ece"] = expected_calibration_error(similar, p_similar)
    if p_similar is not None and threshold is not None:
        measured |= decision_metrics(similar, np.asarray(p_similar) >= threshold)
    return measured


def decision_metrics(similar: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of calling pairs similar; F1 is 0 where none of them is.

    similar, predicted : (n,) bool
    """
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        similar, predicted, average="binary", zero_division=0
    )
    return {
        "accuracy": float(np.mean(similar == predicted)) if len(similar) else float("nan"),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def trivial_baselines(grades: np.ndarray, same_class: np.ndarray) -> pd.DataFrame:
    """What needs no model: rows always-yes, always-no, same-class; columns accuracy, precision,
    recall, f1.
    """
    similar = graded_similar(grades)
    answers = {
        "always-yes": np.ones(len(similar), bool),
        "always-no": np.zeros(len(similar), bool),
        "same-class": np.asarray(same_class, bool),
    }
    return pd.DataFrame(
        {name: decision_metrics(similar, answer) for name, answer in answers.items()}
    ).T


class Ceiling(NamedTuple):
    """How well a person's grade predicts a grade: the best that can be asked of a model.

    f1 : of "similar" by one grading against the other, the same both ways; NaN without a similar
        pair
    pairs : how many were graded twice
    """

    f1: float
    pairs: int


def grading_ceiling(first: list[float], second: list[float]) -> Ceiling:
    """From two gradings of the same pairs, (n,) grades each."""
    similar = [[grade == 3 for grade in grades] for grades in (first, second)]
    return Ceiling(
        float(sk.f1_score(*similar, zero_division=np.nan)) if first else np.nan, len(first)
    )
