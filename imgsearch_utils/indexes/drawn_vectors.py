"""Vectors to compare indexes on: drawn like the study's in any number, or in the files of
ann-benchmarks.
"""

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from imgsearch_utils.indexes.index_comparison import exact_neighbours
from imgsearch_utils.indexes.index_names import MissingPackage
from imgsearch_utils.metrics.geometry import normalised

BLOCK = 65_536  # vectors that are drawn at once


def drawn_like(vectors: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """n synthetic unit vectors from a mixture of Gaussians fitted to the given ones.

    The mixture (diagonal covariances, a component for every 20 vectors up to 100) is fitted in the
    principal components that hold 95 % of the variance; the rest is added as isotropic noise
    (Tipping & Bishop, 1999). Say that they are synthetic wherever a figure shows them: real vectors
    have more structure, and no two sizes are alike.

    vectors : (m, d) of length 1, m >= 40
    """
    if len(vectors) < 40:
        raise ValueError(f"a mixture needs at least 40 vectors to be fitted to, got {len(vectors)}")
    principal = PCA(0.95, svd_solver="full", random_state=seed).fit(vectors)
    components = min(100, len(vectors) // 20)
    mixture = GaussianMixture(components, covariance_type="diag", reg_covar=1e-5, random_state=seed)
    mixture.fit(principal.transform(vectors))
    rng = np.random.default_rng(seed)
    reduced, drawn = (
        rng.permutation(mixture.sample(n)[0]),
        np.empty((n, vectors.shape[1]), np.float32),
    )
    for part in np.array_split(np.arange(n), -(-n // BLOCK)):  # in numbers of eight bytes
        drawn_part = principal.inverse_transform(reduced[part])
        drawn[part] = normalised(
            drawn_part + rng.normal(scale=principal.noise_variance_**0.5, size=drawn_part.shape)
        )
    return drawn


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise MissingPackage(
            'ann-benchmarks files need h5py: pip install "imgsearch-utils[ann]"'
        ) from error
    return h5py


def write_hdf5(path: Path, vectors: np.ndarray, queries: np.ndarray, k: int = 100) -> None:
    """Write vectors, queries and their true neighbours in the layout of ann-benchmarks (angular
    distance).

    train (n, d), test (n_queries, d), neighbors (n_queries, k) row numbers, distances (n_queries,
    k) of 1 - cosine."""
    neighbours, distances = exact_neighbours(vectors, queries, min(k, len(vectors)))
    with _h5py().File(path, "w") as file:
        file.attrs.update(
            type="dense", distance="angular", dimension=vectors.shape[1], point_type="float"
        )
        for name, values in {"train": vectors, "test": queries, "distances": distances}.items():
            file[name] = np.asarray(values, np.float32)
        file["neighbors"] = neighbours.astype(np.int32)


def read_hdf5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, d) and queries (n_queries, d) of an ann-benchmarks file of angular distance.

    Its neighbours are not taken over: the truth is computed anew.

    Raises
    ------
    ValueError
        when it is not such a file: other distances rank unit vectors otherwise.
    """
    try:
        with _h5py().File(path) as file:
            distance = file.attrs.get("distance", "angular")
            train, test = (np.asarray(file[name], np.float32) for name in ("train", "test"))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not an ann-benchmarks file with train and test: {error}"
        ) from None
    if distance != "angular":
        raise ValueError(
            f"{path} is of {distance} distance, expected angular; choose a file named "
            "...-angular.hdf5"
        )
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        shapes = f"{train.shape} and {test.shape}"
        raise ValueError(f"{path}: train and test must be (n, d) and (n_queries, d), got {shapes}")
    return normalised(train), normalised(test)
