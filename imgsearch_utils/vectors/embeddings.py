"""Vectors, the images' names in the same order, and what made them: in memory and on disk."""

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.geometry import mean_cosine
from imgsearch_utils.workspace import digest, folder_lock, read_json, replace_folder, write_json

COLLAPSED = 0.98
FILES = ("vectors.npy", "names.csv", "config.json")
STAMP = ".verified.json"  # the digest that a folder had when it was last read wholly, and the files' stamps then
LIBRARIES = ("timm", "open_clip")  # of a config: another version of them gives the same vectors, but for rounding


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
        """What made the vectors, without versions of libraries: a head belongs to one such encoder."""
        return plain({name: value for name, value in self.config.items() if name not in LIBRARIES})

    @cached_property
    def _positions(self) -> pd.Index:
        return pd.Index(self.names)

    def have(self, names: Iterable[str]) -> np.ndarray:
        """Which of the images have a vector, (len(names),) bool."""
        return self._positions.get_indexer(list(names)) >= 0

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
        """Write vectors.npy, names.csv and config.json, replacing the folder in one step.

        config.json holds the encoder's configuration and, as `digest`, the SHA-256 of all three.
        """
        with replace_folder(folder) as partial:
            np.save(partial / "vectors.npy", np.ascontiguousarray(self.vectors, np.float32))
            digests = self.digests or [""] * len(self.names)
            pd.DataFrame({"image": self.names, "sha256": digests}).to_csv(
                partial / "names.csv", index=False, quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
            whole = _digest(partial, self.config)
            write_json(partial / "config.json", {**plain(self.config), "digest": whole})
            write_json(partial / STAMP, {"digest": whole, "stamps": _stamps(partial)})

    @classmethod
    def load(cls, folder: Path, again: bool = False) -> "Embeddings":
        """Read a folder of embeddings; ValueError where its three files do not agree, or are not what was saved.

        The digest of vectors, names and configuration is compared once, which reads the whole folder (a second for a
        gigabyte); from then on a stamp beside them tells (size, inode, times of change). So every change by a program
        is noticed, but not a disk that forgets; for that, `again` reads all and writes no stamp. A folder of an older
        version, without a digest, is read on; the next ``save`` gives it one.
        """
        try:
            return cls._read(folder, again)
        except ValueError:  # perhaps a writer was at work
            if again:
                raise
            with contextlib.suppress(OSError), folder_lock(folder).acquire(timeout=60):  # read-only: there is none
                return cls._read(folder)
            raise

    @classmethod
    def _read(cls, folder: Path, again: bool = False) -> "Embeddings":
        hint = "remove it, and what is not there is encoded again"
        try:
            stamps = _stamps(folder)
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            names = pd.read_csv(folder / "names.csv", dtype=str, keep_default_na=False)
            if names.image.duplicated().any():
                raise ValueError(f"{names.image[names.image.duplicated()].iloc[0]!r} is named more than once")
            config = read_json(folder / "config.json", "encoder")
        except (OSError, EOFError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{folder}: not a folder of embeddings: {' '.join(str(error).split())}; {hint}") from None
        if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(names):
            raise ValueError(f"{folder}: vectors.npy is {vectors.dtype} {vectors.shape}, expected float32 "
                             f"({len(names)}, d) for the names in names.csv; {hint}")
        saved = config.pop("digest", "")
        _verify(folder, config, saved, stamps, again)
        return cls(names.image.tolist(), vectors, config, names.sha256.tolist() if "sha256" in names else [], saved)


def plain(config: dict) -> dict:
    """A configuration as it is read back from JSON."""
    return json.loads(json.dumps(config, default=str))


def _digest(folder: Path, config: dict) -> str:
    parts = [*(digest(folder / name) for name in FILES[:2]), json.dumps(plain(config), sort_keys=True)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stamps(folder: Path) -> list[list[int]]:
    """What tells that a file was changed or replaced, for each of the three where they are there."""
    found = [(folder / name).stat() for name in FILES]
    return [[each.st_size, each.st_ino, each.st_mtime_ns, each.st_ctime_ns] for each in found]


def _verify(folder: Path, config: dict, saved: str, stamps: list, again: bool) -> None:
    """Compare a folder with its digest, unless its stamp says that nothing was changed since that was done."""
    known = {"digest": saved, "stamps": stamps}
    try:
        stamp = read_json(folder / STAMP, *known)
    except ValueError:  # there is none
        stamp = {}
    if (saved or stamp) and (again or stamp != known) and not (saved and _digest(folder, config) == saved):
        raise ValueError(f"{folder}: vectors, names and configuration are not those that were saved together (by the "
                         "digest in config.json). Restore the folder from a copy, or remove it and make it again: "
                         "imgsearch embed (of a head: imgsearch index)")
    if _stamps(folder) != stamps:
        raise ValueError(f"{folder}: was replaced while it was read; try again")
    if saved and stamp != known and not again:
        with contextlib.suppress(OSError):  # read-only: it is read wholly each time
            write_json(folder / STAMP, known)


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
