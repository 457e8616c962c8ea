"""Vectors as points on a map: their principal components, or UMAP; kept with the digest of what
they were made of.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.metrics.geometry import normalised

LAYOUTS = ("pca", "umap")
# principal components of which UMAP makes its points: what follows is noise, and takes most of the
# time
FIRST = 50
NEIGHBOURS = 15  # of a point, whose nearness UMAP keeps
INSTALL = "UMAP is an extra: pip install 'imgsearch-utils[map]'"


def has_layout(method: str) -> bool:
    """Whether a layout can be made here."""
    return method == "pca" or bool(find_spec("umap"))


def lay_out(names: Sequence[str], vectors: np.ndarray, method: str, seed: int = 0) -> Embeddings:
    """Lay vectors out on a plane.

    The principal components show how the vectors spread, and their distances mean something. UMAP
    (McInnes, Healy & Melville, UMAP: Uniform Manifold Approximation and Projection for Dimension
    Reduction, 2018) keeps who is near whom; how far groups lie from each other says nothing there.

    Parameters
    ----------
    vectors : (n, d), taken at length 1
    method : one of ``LAYOUTS``
    seed : of UMAP; the same seed gives the same map on one machine

    Returns
    -------
    the names, and as vectors the points (n, 2); its configuration holds `method`, `explained` (the
    shares of the variance of the first components, at most ten; empty for UMAP), and what they were
    made of

    Raises
    ------
    ValueError
        for another method, UMAP that is not installed, and fewer than three images.
    """
    about = _about(names, vectors, method, seed)
    if len(names) < 3:
        raise ValueError(f"a map needs three images, got {len(names)}")
    unit = normalised(vectors)
    pca = PCA(min(FIRST, len(unit), unit.shape[1]), svd_solver="auto", random_state=seed)
    with np.errstate(invalid="ignore"):  # images that are all alike
        spread = pca.fit_transform(unit)
    if method == "pca":
        points = np.pad(spread[:, :2], ((0, 0), (0, max(0, 2 - spread.shape[1]))))
        whole = max(unit.var(0, ddof=1).sum(), np.finfo(np.float32).tiny)
        shares = (pca.explained_variance_[:10] / whole).astype(float).round(6).tolist()
    else:
        points, shares = _umap(spread, seed), []
    return Embeddings(
        list(names), np.ascontiguousarray(points, np.float32), {**about, "explained": shares}
    )


def _umap(spread: np.ndarray, seed: int) -> np.ndarray:
    if not has_layout("umap"):
        raise ValueError(INSTALL)
    import umap  # compiles for seconds when it is first used

    # too few points have no eigenvectors to begin with
    init = "random" if len(spread) <= NEIGHBOURS + 2 else "spectral"
    return umap.UMAP(
        n_neighbors=min(NEIGHBOURS, len(spread) - 1),
        min_dist=0.1,
        random_state=seed,
        n_jobs=1,
        init=init,
    ).fit_transform(spread)


def _about(names: Sequence[str], vectors: np.ndarray, method: str, seed: int) -> dict:
    """What makes a layout what it is."""
    if method not in LAYOUTS:
        raise ValueError(f"a layout is one of {', '.join(LAYOUTS)}, got {method!r}")
    made_of = hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass"))
    made_of.update(np.ascontiguousarray(vectors, np.float32))
    library = {"pca": "scikit-learn", "umap": "umap-learn"}[method]
    return {
        "encoder": "map",
        "method": method,
        "seed": seed,
        "of": made_of.hexdigest(),
        "library": f"{library} {version(library)}" if has_layout(method) else library,
    }


def kept_layout(
    folder: Path, names: Sequence[str], vectors: np.ndarray, method: str, seed: int = 0
) -> Embeddings:
    """``lay_out``, read from a folder where it was kept for exactly these vectors, else made and
    kept there.

    One that is kept stays in use when the library has another version since, or is gone: the
    vectors are the same."""
    about = _about(names, vectors, method, seed)
    with contextlib.suppress(ValueError):  # none is there, or it is broken: it is made again
        kept = Embeddings.load(folder)
        same = all(kept.config.get(name) == about[name] for name in ("method", "seed", "of"))
        if same and kept.names == list(names):
            return kept
    layout = lay_out(names, vectors, method, seed)
    # a workspace that is read only: it is made again the next time
    with contextlib.suppress(OSError):
        layout.save(folder)
    return layout


def spread_out(points: np.ndarray, cells: int = 7) -> np.ndarray:
    """Rows (m,) of points that stand for those around them, none near another: to show them as
    pictures.

    Of each cell of a grid the point nearest to its middle is taken, but for those nearer than three
    quarters of a cell to one that is taken already.

    points : (n, 2); cells : of the grid, along its longer side
    """
    width = np.ptp(points, axis=0).max() / cells or 1.0
    place = (points - points.min(0)) / width
    cell = np.floor(place).astype(int).clip(0, cells - 1)
    off = np.abs(place - cell - 0.5).max(1)
    order = np.lexsort([off, cell[:, 1], cell[:, 0]])
    first = order[np.r_[True, (np.diff(cell[order], axis=0) != 0).any(1)]]
    taken: list[int] = []
    for row in first[np.argsort(off[first], kind="stable")].tolist():
        if not taken or np.abs(place[taken] - place[row]).max(1).min() >= 0.75:
            taken.append(row)
    return np.array(taken)
