"""Which images are nearly the same picture, by their vectors."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from imgsearch_utils.images.near_pairs import MANY, Lists, near_pairs

SAME_PICTURE = 0.9999  # cosine of two vectors of one picture, up to rounding


def near_duplicate_groups(
    vectors: np.ndarray, cosine: float, many: int = MANY, progress: Callable = iter
) -> tuple[np.ndarray, np.ndarray]:
    """Group images whose vectors are nearly equal; a group is a connected component of such pairs.

    Up to `many` images every pair is looked at. Above, those whose vectors lie in inverted lists
    near one another (``near_pairs.Lists``): time grows as n to the power of 1.5;
    ``benchmarks.million`` measures how many are found.

    Parameters
    ----------
    vectors : (n, d) embeddings of one encoder
    cosine : pairs at least this similar count as duplicates
    progress : wraps the blocks, e.g. ``tqdm``

    Returns
    -------
    groups : (n,) int, the group of each image, numbered in order of first appearance
    pairs : (m, 2) int, the duplicate pairs' positions
    """
    from scipy.sparse import (
        coo_matrix,
    )  # here, so that a command which groups nothing does not wait for it
    from scipy.sparse.csgraph import connected_components

    duplicate_pairs = (
        Lists.of(vectors).near_pairs(cosine, progress)
        if len(vectors) > many
        else near_pairs(vectors, cosine)
    )
    graph = coo_matrix(
        (np.ones(len(duplicate_pairs)), (duplicate_pairs[:, 0], duplicate_pairs[:, 1])),
        shape=(len(vectors),) * 2,
    )
    return pd.factorize(connected_components(graph, directed=False)[1])[0], duplicate_pairs
