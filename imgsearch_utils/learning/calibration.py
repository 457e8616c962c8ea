"""From a pair's cosine to the probability of each grade, and the threshold that people's answers
suggest.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

GRADES = (0, 1, 2, 3)


def _platt(cosine, reached, weight):
    """Slope (>= 0) and intercept of a logistic curve, with the smoothed targets of Platt (1999)."""
    from sklearn.linear_model import (
        LogisticRegression,
    )  # a second, which search and score do not need

    positives, negatives = weight[reached].sum(), weight[~reached].sum()
    target = np.where(reached, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x, y = np.tile(cosine, 2)[:, None], np.repeat([1, 0], len(cosine))
    model = LogisticRegression(C=1e4).fit(
        x, y, sample_weight=np.concatenate([target * weight, (1 - target) * weight])
    )
    if model.coef_[0, 0] > 1e-6:
        return float(model.coef_[0, 0]), float(model.intercept_[0])
    mean = np.average(target, weights=weight)
    return 0.0, float(np.log(mean / (1 - mean)))


@dataclass(frozen=True)
class Calibration:
    """P(grade) from a cosine: one logistic curve for each of P(grade >= 1), >= 2, >= 3, nested by a
    running maximum.

    Each slope is at least 0, so P(grade 3) never falls as the cosine rises.

    slopes, intercepts : three numbers, for grade >= 1, 2, 3
    threshold : of P(grade 3); the middle of the interval that gives the best F1 on the pairs it was
    fitted on"""

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    threshold: float

    @classmethod
    def fit(
        cls, cosine: np.ndarray, grades: np.ndarray, weight: np.ndarray | None = None
    ) -> "Calibration":
        """Fit on pairs that the model did not learn from: `cosine`, `grades` of 0..3 and perhaps
        `weight`, each (n,).

        Curves by Platt (1999); a grade that does not occur gets the small probability of his
        smoothed targets. ValueError for no pair, arrays of different lengths, or a cosine that is
        not finite."""
        cosine, grades = np.asarray(cosine, float), np.asarray(grades, float)
        if cosine.shape != grades.shape or cosine.ndim != 1 or not len(cosine):
            raise ValueError(
                f"expected as many cosines as grades, at least 1, got {cosine.shape} and "
                f"{grades.shape}"
            )
        if not np.isfinite(cosine).all() or not np.isin(grades, GRADES).all():
            raise ValueError(
                "cosines must be finite and grades 0, 1, 2 or 3; look at the dev pairs"
            )
        weight = np.ones(len(cosine)) if weight is None else np.asarray(weight, float)
        slopes, intercepts = zip(*(_platt(cosine, grades >= grade, weight) for grade in GRADES[1:]))
        curves = cls(slopes, intercepts, 0.5)
        return cls(
            slopes, intercepts, best_f1_threshold(curves.predict(cosine)[:, 3], grades == 3, weight)
        )

    def shift_intercepts(
        self, cosine: np.ndarray, grades: np.ndarray, weight: np.ndarray
    ) -> "Calibration":
        """The same curves higher or lower, as other pairs say: `cosine`, `grades`, `weight`, each
        (n,).

        Each intercept is moved by the most probable step, one of 0 having the prior of a normal
        distribution of deviation 2; `weight` is scaled to a mean of 1. The threshold is moved along
        with the curve of grade 3."""
        cosine, weight = np.asarray(cosine, float), np.asarray(weight, float) / np.mean(weight)
        shift_intercepts = []
        for grade, slope, intercept in zip(GRADES[1:], self.slopes, self.intercepts):
            reached, logit = np.asarray(grades) >= grade, slope * cosine + intercept

            def loss(step, reached=reached, logit=logit):
                return (
                    weight * np.logaddexp(0, np.where(reached, -1, 1) * (logit + step))
                ).sum() + step**2 / 8

            shift_intercepts.append(
                intercept + float(minimize_scalar(loss, bounds=(-10, 10), method="bounded").x)
            )
        odds = (
            np.log(self.threshold / (1 - self.threshold))
            + shift_intercepts[-1]
            - self.intercepts[-1]
        )
        return Calibration(self.slopes, tuple(shift_intercepts), float(expit(odds)))

    def predict(self, cosine: np.ndarray) -> np.ndarray:
        """P(grade 0), ..., P(grade 3) of each cosine: (n,) -> (n, 4), rows sum to 1."""
        reached = expit(np.outer(cosine, self.slopes) + self.intercepts)
        nested = np.maximum.accumulate(reached[:, ::-1], axis=1)[:, ::-1]
        return -np.diff(nested, axis=1, prepend=1.0, append=0.0) + 0.0  # no minus zero

    def columns(self, cosine: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of scored pairs that follow from their `cosine` (n,): p_similar and p_grade_0
        .. p_grade_3.
        """
        grades = self.predict(cosine)
        return {
            "p_similar": grades[:, 3],
            **{f"p_grade_{grade}": grades[:, grade] for grade in GRADES},
        }

    def cosine_at_threshold(self) -> float:
        """The cosine whose P(grade 3) is the threshold (+-inf where no cosine reaches it)."""
        logit = np.log(self.threshold / (1 - self.threshold)) - self.intercepts[2]
        return (
            float(logit / self.slopes[2]) if self.slopes[2] else float(np.copysign(np.inf, logit))
        )

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict) -> "Calibration":
        """The inverse of ``to_dict``; ValueError for values that are not a calibration."""
        try:
            slopes, intercepts = (
                tuple(map(float, values[name])) for name in ("slopes", "intercepts")
            )
            threshold = float(values["threshold"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"expected slopes, intercepts and threshold, got {values!r:.200}"
            ) from None
        if (
            len(slopes) != 3
            or len(intercepts) != 3
            or not np.isfinite([*slopes, *intercepts, threshold]).all()
        ):
            raise ValueError(
                f"expected three finite slopes and intercepts and a threshold, got {values!r:.200}"
            )
        return cls(slopes, intercepts, threshold)


def best_f1_threshold(
    p: np.ndarray, similar: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """Middle of the interval of thresholds on `p` (n,), inside (0, 1), that gives the best F1 for
    `similar` (n,) bool.

    Without a similar pair there is no F1: 0.5.
    """
    from sklearn.metrics import precision_recall_curve

    if not similar.any():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(similar, p, sample_weight=weight)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    below = thresholds[best - 1] if best else 0.0
    return float(np.clip((thresholds[best] + below) / 2, 1e-6, 1 - 1e-6))
