"""Which images are nearly the same picture, by their vectors."""

import numpy as np
import pandas as pd

from imgsearch_utils.geometry import normalised

SAME_PICTURE = 0.9999  # cosine of two vectors of one picture, up to rounding


def near_duplicate_groups(vectors: np.ndarray, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Group images whose vectors are nearly equal; a group is a connected component of such pairs.

    Parameters
    ----------
    vectors : (n, d) embeddings of one encoder
    cosine : pairs at least this similar count as duplicates

    Returns
    -------
    groups : (n,) int, the group of each image, numbered in order of first appearance
    pairs : (m, 2) int, the duplicate pairs' positions
    """
    from scipy.sparse import coo_matrix  # here, so that a command which groups nothing does not wait for it
    from scipy.sparse.csgraph import connected_components

    unit = normalised(vectors)
    found = []
    for start in range(0, len(unit), 1024):
        rows, columns = np.nonzero(unit[start : start + 1024] @ unit.T >= cosine - 1e-6)  # rounding of float32
        rows += start
        found.append(np.stack([rows, columns], 1)[rows < columns])
    pairs = np.concatenate([np.empty((0, 2), int), *found])  # also of no vectors
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(unit),) * 2)
    return pd.factorize(connected_components(graph, directed=False)[1])[0], pairs
