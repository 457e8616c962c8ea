"""A second look at the first results: by the neighbours that they have in common."""

from collections.abc import Sequence

import numpy as np

RERANK = ("reciprocal",)  # by what the first results can be put in another order
FIRST = 100  # results that are
NEAR, FEW, SHARE = 20, 6, 0.3  # k1, k2 and lambda of the article, its own values


def reranked(query: np.ndarray, unit: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The order (n,) of a query's first results by ``reciprocal_distances``; equal ones by name.

    query : (d,) of length 1, by the model that orders
    unit : (n, d) of the results
    """
    distances = reciprocal_distances(np.concatenate([query[None], unit]))
    return np.lexsort([np.asarray(names), distances.round(6)])


def reciprocal_distances(
    unit: np.ndarray, near: int = NEAR, few: int = FEW, share: float = SHARE
) -> np.ndarray:
    """Distances of a query to its results, by the neighbours that they share among themselves.

    k-reciprocal encoding (Zhong, Zheng, Cao & Li, Re-ranking Person Re-identification with
    k-reciprocal Encoding, CVPR 2017), here among the results alone, so that it costs the same
    however large the collection is.

    Parameters
    ----------
    unit : (1 + n, d) of length 1: the query, then its results
    near, few : neighbours that are compared (k1), and over which they are averaged (k2)
    share : of the plain distance in the result (lambda), against the Jaccard distance of the
        neighbours

    Returns
    -------
    (n,), small is near
    """
    m = len(unit)
    distance = 2 - 2 * (unit @ unit.T).astype(np.float64)
    distance /= max(distance.max(), 1e-12)
    np.fill_diagonal(distance, -1)  # each is its own first neighbour, beside its twins too
    order = np.argsort(distance, axis=1, kind="stable")
    np.fill_diagonal(distance, 0)
    wide, narrow = (_reciprocal(order, size) for size in (near, max(1, round(near / 2))))
    members = wide.copy()
    for row in range(m):
        for other in np.flatnonzero(wide[row]):
            if (narrow[other] & wide[row]).sum() > 2 / 3 * narrow[other].sum():
                members[row] |= narrow[other]
    weights = np.where(members, np.exp(-distance), 0)
    weights /= weights.sum(1, keepdims=True)
    weights = weights[order[:, :few]].mean(1)
    shared = np.minimum(weights[0], weights[1:]).sum(1)
    return (1 - share) * (1 - shared / (2 - shared)) + share * distance[0, 1:]


def _reciprocal(order: np.ndarray, size: int) -> np.ndarray:
    """(m, m) bool: which are among each other's `size` nearest, beside themselves."""
    near = np.zeros(order.shape, bool)
    np.put_along_axis(near, order[:, : size + 1], True, axis=1)
    return near & near.T
