"""What heads stand on: the training images' mean, their directions and classes, and what similar
pairs differ in.
"""

import hashlib
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from imgsearch_utils.study import HeadSettings

WIDTH = 256  # directions that a network works on, of vectors with more than twice as many numbers
SHRINKAGE = 0.5  # of the covariance of similar pairs' differences towards the identity
# grounds that are not made again when they are asked for next: those of a study's cross-fits
KEPT = 16
_kept: dict[bytes, "TrainingStatistics"] = {}
_keeping = threading.Lock()


def centred(vectors: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Normalise, subtract the mean, normalise: (n, dim) -> (n, dim)."""
    return normalize(normalize(vectors) - mean)


@dataclass(frozen=True)
class TrainingStatistics:
    """What heads of all recipes share: what the training images tell before any pair is graded.

    mean : (dim,) of the normalised vectors
    basis : (width, dim) directions that a network works on
    class_weight, class_bias : (n_classes, dim) and (n_classes,) of a logistic regression on the
        centred vectors; empty where there are no two classes, or the class part is left out
    """

    mean: torch.Tensor
    basis: torch.Tensor
    class_weight: torch.Tensor
    class_bias: torch.Tensor

    @classmethod
    def of(
        cls, vectors: np.ndarray, classes: np.ndarray, settings: HeadSettings
    ) -> "TrainingStatistics":
        """From the training images: vectors (n, dim), class names (n,); the same object where it
        was made before.
        """
        known_by = hashlib.sha256(np.ascontiguousarray(vectors, np.float32))
        known_by.update("\n".join([*map(repr, classes), repr(bool(settings.class_share))]).encode())
        statistics = _kept.get(known_by.digest()) or cls._make(vectors, classes, settings)
        with _keeping:
            while len(_kept) >= KEPT:
                _kept.pop(next(iter(_kept)))
            _kept[known_by.digest()] = statistics
        return statistics

    @classmethod
    def _make(cls, vectors, classes, settings):
        vectors = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
        mean = normalize(vectors).mean(0)
        x = centred(vectors, mean)
        weight, bias = x[:0], x[:0, 0]
        if settings.class_share and len(np.unique(classes)) > 1:
            from sklearn.linear_model import (
                LogisticRegression,
            )  # a second, which search and score do not need

            model = LogisticRegression(C=3.0, max_iter=1000).fit(x.numpy(), classes)
            weight, bias = (
                torch.as_tensor(part, dtype=torch.float32)
                for part in (model.coef_, model.intercept_)
            )
            if len(weight) == 1:  # scikit-learn keeps one row for two classes
                weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        return cls(mean, spread_basis(x), weight, bias)


def whitening(differences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions (k, dim) in which similar pairs differ, and the factor less 1 (k,) by which each
    is damped.

    Relevant component analysis (Bar-Hillel, Hertz, Shental & Weinshall, ICML 2003): x is multiplied
    by C^(-1/2), C being the covariance of the differences (m, dim) of similar pairs, here shrunk by
    half to the identity. All other directions are then scaled alike, and their scale is left out,
    because lengths are normalised afterwards."""
    if len(differences) < 2 or not differences.any():  # or all of identical vectors
        return differences[:0], differences[:0, 0]
    _, size, directions = torch.linalg.svd(
        differences / len(differences) ** 0.5, full_matrices=False
    )
    floor = SHRINKAGE * (size**2).sum() / differences.shape[1]
    return directions, (floor / (floor + (1 - SHRINKAGE) * size**2)).sqrt() - 1


def spread_basis(x: torch.Tensor) -> torch.Tensor:
    """Orthonormal directions (width, dim) that hold most of the spread of (n, dim) vectors.

    Vectors of up to twice ``WIDTH`` numbers keep their own directions, and their network takes
    little longer. Of longer ones these are the first ``WIDTH`` principal directions, or as many as
    there are, turned to be as near as possible to fixed random ones: Adam treats each coordinate by
    itself, and works worse where a few of them hold nearly everything. So turned, they also do not
    depend on the signs and the order in which principal directions come out."""
    if x.shape[1] <= 2 * WIDTH:
        return torch.eye(x.shape[1])
    n, dim = x.shape
    gram = (x @ x.T if n < dim else x.T @ x).double()
    value, vector = torch.linalg.eigh(gram)
    width = min(WIDTH, int((value > value[-1] * 1e-6).sum()))
    if not width:  # all vectors are one and the same
        return x[:0]
    value, vector = value[-width:], vector[:, -width:]
    principal = (x.double().T @ vector / value.sqrt() if n < dim else vector).T
    fixed = torch.randn(dim, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(principal @ fixed)
    return ((left @ right).T @ principal).float()
