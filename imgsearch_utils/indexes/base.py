"""What every index does the same way: checks, adding, filtering, saving."""

import hashlib
import importlib
import inspect
import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from imgsearch_utils.indexes.index_files import fingerprint, made_of, save
from imgsearch_utils.indexes.index_names import INDEXES, MissingPackage, check_arguments
from imgsearch_utils.metrics.geometry import lengths


class Index:
    """A nearest-neighbour index by cosine: subclasses give ``_build`` and ``_search``.

    The caller normalises the vectors (``geometry.normalised``); ``build`` refuses others. Ids are
    the vectors' row numbers; added vectors get the next ones. ``_build`` and ``_search`` name their
    arguments with defaults, which are all the arguments that the index takes: anything else is
    refused. Cosine, inner product and Euclidean distance rank unit vectors alike, so each library
    uses what it does best.

    A subclass with ``_add`` can add; one whose ``_search`` takes `allowed` (a mask over ids) can
    filter. A library's own file format is written and read by ``_write`` and ``_read``. A subclass
    without them gives ``_vectors_added``, all that was added so far: these are saved, and loading
    builds the index of them again."""

    name: ClassVar[str]
    module: ClassVar[str]  # the library that does the work
    # the package's extra that installs it; None: always installed
    extra: ClassVar[str | None] = None
    default_sweep: ClassVar[dict[str, list]] = {}
    remote: bool = False  # on a server: its size is not measured here

    dim: int
    build_arguments: dict[str, Any]
    # count and fingerprint of the vectors of the build and of each addition
    parts: list[tuple[int, str]]

    @property
    def count(self) -> int:
        """How many vectors are indexed."""
        return sum(count for count, _ in self.parts)

    @classmethod
    def can(cls) -> frozenset[str]:
        """Which of "add" and "filter" the index does beside build and query."""
        filters = "allowed" in inspect.signature(cls._search).parameters
        adds = getattr(cls, "_add", None) is not None
        able = {"add": adds, "filter": filters}
        return frozenset(verb for verb, yes in able.items() if yes)

    def build(self, vectors: np.ndarray, **arguments) -> Self:
        """Index the vectors, (n, d) float32 of length 1; building again replaces what was there.

        Raises
        ------
        ValueError for another shape, NaN, lengths other than 1, or an unknown argument (naming the
            nearest).
        MissingPackage
            when the library is not installed.
        """
        check_arguments(self.name, "build", arguments)
        vectors = _checked(vectors)
        self.dim = vectors.shape[1]
        self.build_arguments, self.parts = arguments, [(len(vectors), fingerprint(vectors))]
        self._build(vectors, **arguments)
        return self

    def query(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, **arguments
    ) -> np.ndarray:
        """The k nearest of each query, best first.

        queries : (n_queries, d) float32
        allowed : ids to choose among; all when not given
        Returns (n_queries, k) int64 ids; -1 where the index found fewer than k.
        """
        if arguments:
            check_arguments(self.name, "query", arguments)
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(
                f"queries must be (n_queries, {self.dim}), got {queries.shape}; wrap one as x[None]"
            )
        if not math.isfinite(np.vdot(queries, queries)):
            row = int(np.argmax(~np.isfinite(queries).all(axis=1)))
            raise ValueError(f"queries must be finite numbers, row {row} has NaN or infinity")
        if not 0 < k <= self.count:
            raise ValueError(f"k must be 1 to {self.count}, the number of indexed vectors, got {k}")
        if allowed is not None:
            self._need("filter")
            arguments["allowed"] = self._mask(allowed)
        return self._search(queries, k, **arguments)

    def add(self, vectors: np.ndarray) -> np.ndarray:
        """Index further vectors, (n, d) of length 1, without building again; returns their ids."""
        self._need("add")
        vectors = _checked(vectors, self.dim)
        self._add(vectors)
        ids = np.arange(self.count, self.count + len(vectors))
        self.parts = [*self.parts, (len(vectors), fingerprint(vectors))]
        return ids

    def _need(self, verb: str) -> None:
        if verb not in self.can():
            able = ", ".join(name for name, kind in INDEXES.items() if verb in kind.can())
            raise ValueError(
                f"{self.name} cannot {verb}; build it again, or take one that can: {able}"
            )

    def _mask(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= self.count:
            odd = ids[(ids < 0) | (ids >= self.count)][0]
            raise ValueError(f"ids must be 0 to {self.count - 1}, got {odd}")
        return np.bincount(ids, minlength=self.count).astype(bool)

    def _name_on_server(self) -> str:
        """What a server calls the vectors that were built: another name for other vectors or
        arguments.
        """
        made_of = json.dumps([self.parts, self.build_arguments], sort_keys=True)
        return "imgsearch_" + hashlib.sha256(made_of.encode()).hexdigest()[:24]

    def _expect(self, held: int) -> None:
        """ValueError where a library, or a server, holds another number of vectors than was built
        and added.
        """
        if held != self.count:
            raise ValueError(f"it holds {held} vectors, expected {self.count}")

    def save(self, path: Path) -> None:
        """Write the index to `path`, and what it is to ``<path>.json``."""
        save(self, path)

    def _write(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, self._vectors_added(), allow_pickle=False)

    def _read(self, path: Path) -> None:
        vectors = np.load(path, allow_pickle=False)
        if not made_of(self, vectors):
            raise ValueError(
                f"its {vectors.shape} vectors are not those that the index was built of"
            )
        self._build(vectors, **self.build_arguments)

    @classmethod
    def library(cls):
        """The library's module; MissingPackage, with the line that installs it, when it is not
        there.
        """
        try:
            return importlib.import_module(cls.module)
        except ImportError as error:
            line = (
                f'pip install "imgsearch-utils[{cls.extra}]"'
                if cls.extra
                else f"pip install {cls.module}"
            )
            raise MissingPackage(f"{cls.name} needs {cls.module}: {line}") from error

    @classmethod
    def library_version(cls) -> str:
        """The library and its version, as written beside saved files."""
        return f"{cls.module} {getattr(cls.library(), '__version__', None) or version(cls.module)}"


def _checked(vectors: np.ndarray, dim: int | None = None) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != (dim or vectors.shape[1]):
        expected = f"(n, {dim or 'd'})"
        raise ValueError(
            f"vectors must be {expected} with n > 0, got {vectors.shape}; wrap one vector as "
            "x[None]"
        )
    long = lengths(vectors)
    if not np.abs(long - 1).max() < 1e-3:  # NaN too
        row = int(np.argmax(~(np.abs(long - 1) < 1e-3)))
        raise ValueError(
            f"vectors must have length 1, row {row} has {long[row]:.4g}; use geometry.normalised"
        )
    return vectors
