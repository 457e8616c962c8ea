"""Vectors, the images' names in the same order, and what made them: in memory and on disk."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.images import vector_store
from imgsearch_utils.images.vector_store import plain
from imgsearch_utils.metrics.geometry import mean_cosine
from imgsearch_utils.workspace import folder_lock

COLLAPSED = 0.98
# of a config: another version of them gives the same vectors, but for rounding
LIBRARIES = ("timm", "open_clip")


@dataclass(frozen=True)
class Embeddings:
    """One vector an image.

    names : n image names
    vectors : (n, d) float32, C order; memory-mapped when loaded
    config : the encoder (or head) and its settings
    digests : n SHA-256 of the picture files, empty where there are none
    sha256 : of all that was saved; empty before that, and for a folder that was saved without
    """

    names: list[str]
    vectors: np.ndarray
    config: dict
    digests: list[str] = field(default_factory=list)
    sha256: str = ""

    @property
    def encoder(self) -> dict:
        """What made the vectors, without versions of libraries: a head belongs to one such
        encoder.
        """
        return plain({name: value for name, value in self.config.items() if name not in LIBRARIES})

    @cached_property
    def _positions(self) -> pd.Index:
        return pd.Index(self.names)

    def find(self, names: Iterable[str]) -> np.ndarray:
        """Positions of images, (len(names),); -1 where there is no vector."""
        return self._positions.get_indexer(list(names))

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """Positions of images; ValueError names those that have no vector."""
        names = list(names)
        positions = self.find(names)
        if (positions < 0).any():
            unknown = list(dict.fromkeys(name for name, row in zip(names, positions) if row < 0))
            raise ValueError(f"{len(unknown)} image(s) have no vector, first: {str(unknown[0])!r}")
        return positions

    def of(self, names: Iterable[str]) -> np.ndarray:
        """Vectors (len(names), d) of images."""
        return self.vectors[self.rows(names)]

    def subset(self, names: Iterable[str]) -> "Embeddings":
        """Embeddings of these images alone, in this order."""
        rows = self.rows(names)
        digests = [self.digests[i] for i in rows] if self.digests else []
        return Embeddings([self.names[i] for i in rows], self.vectors[rows], self.config, digests)

    def save(self, folder: Path) -> None:
        """Write vectors.npy, names.csv and config.json, replacing the folder in one step.

        config.json holds the encoder's configuration and, as `digest`, what all three are known by.
        """
        vector_store.save(folder, self.names, self.vectors, self.config, self.digests)

    def append(self, folder: Path, more: "Embeddings") -> "Embeddings":
        """Write further images at the end of the folder that these were read from; both together,
        as read from there.

        Raises
        ------
        ValueError for images that are there already, vectors of another encoder or width, and a
            folder that was changed.
        """
        if twice := {*self.names} & {*more.names}:
            raise ValueError(f"{sorted(twice)[0]!r} has a vector already")
        if plain(more.config) != self.config or more.vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"{folder}: holds {self.vectors.shape[1]} numbers an image of "
                f"{self.config['encoder']}, "
                f"got {more.vectors.shape[1]} of {more.config['encoder']}"
            )
        digests = more.digests or [""] * len(more.names)
        vector_store.append(folder, self.sha256, more.names, more.vectors, digests)
        return Embeddings.load(folder)

    @classmethod
    def load(cls, folder: Path, again: bool = False) -> "Embeddings":
        """Read a folder of embeddings; ValueError where its three files do not agree, or are not
        what was saved.

        The digest of vectors, names and configuration is compared once, which reads the whole
        folder (a second for a gigabyte); from then on a stamp beside them tells (size, inode, times
        of change). So every change by a program is noticed, but not a disk that forgets; for that,
        `again` reads all and writes no stamp.
        """
        try:
            return cls(*vector_store.read(folder, again))
        except ValueError:  # perhaps a writer was at work
            if again:
                raise
            # read-only: there is none
            with contextlib.suppress(OSError), folder_lock(folder).acquire(timeout=60):
                return cls(*vector_store.read(folder))
            raise


def check_health(vectors: np.ndarray, n_images: int) -> None:
    """Refuse vectors that cannot be searched.

    Raises
    ------
    ValueError
        for a wrong shape or count, NaN or infinite values, zero vectors, and collapsed vectors
        (mean pairwise cosine over .98: a wrong preprocessing, usually).
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(
            f"embeddings must be (n_images, dim), got {vectors.shape}; wrap one image as x[None]"
        )
    if len(vectors) != n_images:
        raise ValueError(f"expected {n_images} vectors, one an image, got {len(vectors)}")
    broken = np.flatnonzero(~np.isfinite(vectors).all(1) | ~vectors.any(1))
    if len(broken):
        raise ValueError(
            f"{len(broken)} vector(s) are zero or hold NaN or infinity, first in row {broken[0]}"
        )
    if n_images > 2 and (mean := mean_cosine(vectors)) > COLLAPSED:
        raise ValueError(
            f"the vectors are collapsed: mean pairwise cosine {mean:.4f} > {COLLAPSED}; are the "
            "pictures "
            "all alike, or rescaled twice before the encoder?"
        )
