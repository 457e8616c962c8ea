"""Vectors, the images' names in the same order, and what made them: in memory and on disk."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.geometry import mean_cosine
from imgsearch_utils.workspace import replace_folder

COLLAPSED = 0.98


@dataclass(frozen=True)
class Embeddings:
    """One vector an image.

    names : n image names
    vectors : (n, d) float32, C order; memory-mapped when loaded
    config : the encoder (or head) and its settings
    digests : n SHA-256 of the picture files, empty where there are none
    """

    names: list[str]
    vectors: np.ndarray
    config: dict
    digests: list[str] = field(default_factory=list)

    @cached_property
    def _positions(self) -> pd.Index:
        return pd.Index(self.names)

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """Positions of images; ValueError names those that have no vector."""
        names = list(names)
        found = self._positions.get_indexer(names)
        if (found < 0).any():
            unknown = list(dict.fromkeys(name for name, row in zip(names, found) if row < 0))
            raise ValueError(f"{len(unknown)} image(s) have no vector, first: {unknown[0]!r}")
        return found

    def of(self, names: Iterable[str]) -> np.ndarray:
        """Vectors (len(names), d) of images."""
        return self.vectors[self.rows(names)]

    def subset(self, names: Iterable[str]) -> "Embeddings":
        """Embeddings of these images alone, in this order."""
        rows = self.rows(names)
        digests = [self.digests[i] for i in rows] if self.digests else []
        return Embeddings([self.names[i] for i in rows], self.vectors[rows], self.config, digests)

    def save(self, folder: Path) -> None:
        """Write vectors.npy, names.csv and config.json, replacing the folder in one step."""
        with replace_folder(folder) as partial:
            np.save(partial / "vectors.npy", np.ascontiguousarray(self.vectors, np.float32))
            digests = self.digests or [""] * len(self.names)
            pd.DataFrame({"image": self.names, "sha256": digests}).to_csv(
                partial / "names.csv", index=False, quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
            (partial / "config.json").write_text(json.dumps(self.config, indent=1, sort_keys=True, default=str))

    @classmethod
    def load(cls, folder: Path) -> "Embeddings":
        """Read a folder of embeddings; ValueError where its three files do not agree."""
        try:
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            names = pd.read_csv(folder / "names.csv", dtype=str, keep_default_na=False)
            config = json.loads((folder / "config.json").read_text())
            if names.image.duplicated().any():
                raise ValueError(f"{names.image[names.image.duplicated()].iloc[0]!r} is named more than once")
        except (OSError, EOFError, ValueError, AttributeError) as error:
            raise ValueError(f"{folder}: not a folder of embeddings: {' '.join(str(error).split())}; remove it, and "
                             "what is not there is encoded again") from None
        if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(names):
            raise ValueError(f"{folder}: vectors.npy is {vectors.dtype} {vectors.shape}, expected float32 "
                             f"({len(names)}, d) for the names in names.csv")
        return cls(names.image.tolist(), vectors, config, names.sha256.tolist() if "sha256" in names else [])


def check_health(vectors: np.ndarray, n_images: int) -> None:
    """Refuse vectors that cannot be searched.

    Raises
    ------
    ValueError
        for a wrong shape or count, NaN or infinite values, zero vectors, and collapsed vectors
        (mean pairwise cosine over .98: a wrong preprocessing, usually).
    """
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"embeddings must be (n_images, dim), got {vectors.shape}; wrap one image as x[None]")
    if len(vectors) != n_images:
        raise ValueError(f"expected {n_images} vectors, one an image, got {len(vectors)}")
    broken = np.flatnonzero(~np.isfinite(vectors).all(1) | ~vectors.any(1))
    if len(broken):
        raise ValueError(f"{len(broken)} vector(s) are zero or hold NaN or infinity, first in row {broken[0]}")
    if n_images > 2 and (mean := mean_cosine(vectors)) > COLLAPSED:
        raise ValueError(f"the vectors are collapsed: mean pairwise cosine {mean:.4f} > {COLLAPSED}; are the pictures "
                         "all alike, or rescaled twice before the encoder?")
