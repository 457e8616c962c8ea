"""Embeddings on disk: vectors, the images' names in the same order, and what made them."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.encoders import Encoder
from imgsearch_utils.images import Collection
from imgsearch_utils.workspace import digest, replace_folder

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


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine over all pairs of distinct rows of (n, d) vectors."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    n = len(unit)
    return float((np.square(unit.sum(0, dtype=np.float64)).sum() - n) / (n * (n - 1)))


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


def read_vectors(collection: Collection) -> Embeddings:
    """Embeddings of a study that comes as vectors: its .npy, checked, in labels.csv's order."""
    try:
        vectors = np.lib.format.open_memmap(collection.vectors, mode="r").astype(np.float32, "C", copy=False)
        check_health(vectors, len(collection.images))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{collection.vectors}: no usable .npy file: {' '.join(str(error).split())}") from None
    config = {"encoder": f"vectors from {collection.vectors.name}", "sha256": digest(collection.vectors)}
    return Embeddings(collection.images.image.tolist(), vectors, config)


def embed(collection: Collection, encoder: Encoder, folder: Path, progress=iter) -> tuple[Embeddings, pd.DataFrame]:
    """Encode a collection's pictures, once: what `folder` already holds of the same encoder is used again.

    A picture is recognised by its content (SHA-256), so adding pictures encodes only the new ones, and a
    run that was stopped goes on after the last saved part. Unreadable pictures are set aside.

    Parameters
    ----------
    folder : where the embeddings are kept
    progress : wraps the batches, e.g. ``tqdm``

    Returns
    -------
    embeddings, and a table `image`, `reason` of the pictures set aside
    """
    names = collection.images.image.tolist()
    paths = [collection.path(name) for name in names]
    digests = [digest(path) for path in paths]
    place = dict(zip(digests, paths))
    saved = Embeddings.load(folder) if (folder / "config.json").is_file() else None
    if saved and saved.config != json.loads(json.dumps(encoder.config, default=str)):
        saved = None
    known = dict(zip(saved.digests, np.array(saved.vectors))) if saved else {}
    reasons: dict[str, str] = {}

    def gather() -> Embeddings:
        there = [i for i, content in enumerate(digests) if content in known]
        vectors = np.stack([known[digests[i]] for i in there]) if there else np.empty((0, 0), np.float32)
        return Embeddings([names[i] for i in there], vectors, encoder.config, [digests[i] for i in there])

    todo = [content for content in place if content not in known]
    while todo:
        part, todo = todo[: max(512, len(known) // 4)], todo[max(512, len(known) // 4) :]
        vectors, failures = encoder.encode_files([place[content] for content in part], progress=progress)
        known |= {content: vectors[j] for j, content in enumerate(part) if j not in failures}
        reasons |= {part[j]: reason.removeprefix(f"{str(place[part[j]])!r}: ") for j, reason in failures.items()}
        if known and todo:
            gather().save(folder)
    embeddings = gather()
    if not embeddings.names:
        raise ValueError(f"{collection.folder}: none of {len(names)} pictures could be read; "
                         f"first: {names[0]!r}: {reasons[digests[0]]}")
    if not saved or (saved.names, saved.digests) != (embeddings.names, embeddings.digests):
        embeddings.save(folder)
    check_health(embeddings.vectors, len(embeddings.names))
    aside = [(name, reasons[content]) for name, content in zip(names, digests) if content in reasons]
    return embeddings, pd.DataFrame(aside, columns=["image", "reason"], dtype=str)
