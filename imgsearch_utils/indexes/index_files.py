"""A saved index is two files: the library's own, and a description that says what it is and how to
know it whole.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgsearch_utils.indexes.index_names import Unreachable, find
from imgsearch_utils.workspace import digest, read_json, stamp, write_json


class IndexFileError(ValueError):
    """A saved index is corrupt, cut off, foreign, or was made of other vectors."""


def fingerprint(vectors: np.ndarray) -> str:
    """sha256 of the vectors' bytes, as written beside a saved index."""
    return hashlib.sha256(np.ascontiguousarray(vectors, np.float32)).hexdigest()


def save(index, path: Path) -> None:
    """Write the index to `path`, and what it is to ``<path>.json``; a file that was there is
    replaced whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    index._write(partial)
    about = {
        "index": index.name,
        "library": index.library_version(),
        "dim": index.dim,
        "count": index.count,
    }
    about |= {"parts": index.parts, "build": index.build_arguments}
    about |= {"file_sha256": digest(partial)}
    partial.replace(path)  # whoever has the old file open or mapped keeps it
    write_json(_about(path), about)


def _about(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _verified(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified.json")


def _remember(path: Path, sha256: str, made_of: str = "") -> None:
    """Note that a file was read or written wholly, and perhaps by what name its vectors are
    known.
    """
    with contextlib.suppress(OSError):  # read-only: it is read wholly each time
        write_json(
            _verified(path), {"file_sha256": sha256, "stamp": stamp(path), "made_of": made_of}
        )


def _remembered(path: Path, sha256: str) -> str | None:
    """The name of the vectors (which may be empty) of a file that was read wholly and is the same;
    else None.
    """
    try:
        remembered, now = read_json(_verified(path), "file_sha256", "stamp", "made_of"), stamp(path)
    except (OSError, ValueError):
        return None
    return (
        str(remembered["made_of"])
        if remembered["stamp"] == now and remembered["file_sha256"] == sha256
        else None
    )


def is_made_of(index, path: Path, known_as: str, unit: Callable[[], np.ndarray]) -> bool:
    """Whether a saved index is of exactly the vectors that are known by this name; they are
    compared one time.

    unit : gives these vectors
    """
    sha256 = read_json(_about(path), "file_sha256")["file_sha256"]
    if known_as and _remembered(path, sha256) == known_as:
        return True
    if not made_of(index, unit()):
        return False
    _remember(path, sha256, known_as)
    return True


def load(path: Path, vectors: np.ndarray | None = None, again: bool = False):
    """Read a saved index; with `vectors` given, only if it was made of exactly these, added ones
    included.

    Its content is compared with its digest once; from then on a stamp tells that the file is the
    same. `again` compares in any case.

    Raises
    ------
    IndexFileError one line: a file or its description is missing, corrupt, cut off, foreign, or of
        other vectors.
    Unreachable
        when its vectors are on a server that does not answer.
    """
    path, hint = Path(path), "build the index again"
    for file in (path, _about(path)):
        if not file.is_file():
            raise IndexFileError(
                f"{file} does not exist: an index is two files, X and X.json; {hint}"
            )
    try:
        about = json.loads(_about(path).read_text())
        index = find(about["index"])()
        index.dim, index.parts, index.build_arguments = about["dim"], about["parts"], about["build"]
        if about.get("deleted"):  # of an older version, which could delete
            raise ValueError("some of its vectors were deleted")
        expected, wrote = about["file_sha256"], about["library"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise IndexFileError(
            f"{_about(path)} does not describe an index ({error}); {hint}"
        ) from None
    if again or _remembered(path, expected) is None:
        if digest(path) != expected:
            raise IndexFileError(
                f"{path} is corrupt, cut off or not the file that {path.name}.json describes; "
                f"{hint}"
            )
        if not again:
            _remember(path, expected)
    if vectors is not None and not made_of(index, vectors):
        made_of_shape = f"{index.count} x {index.dim} vectors, not of these {np.shape(vectors)}"
        raise IndexFileError(f"{path} was made of other vectors: of {made_of_shape}; {hint}")
    try:
        index._read(path)
    except Unreachable:
        raise
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        reason = f"{wrote} wrote it; reading it here: {' '.join(str(error).split())[:200]}"
        raise IndexFileError(f"{path} cannot be read: {reason}; {hint}") from None
    return index


def made_of(index, vectors: np.ndarray) -> bool:
    """Whether an index was built of exactly these vectors, those added later included."""
    ends = np.cumsum([count for count, _ in index.parts])
    pieces = np.split(vectors, ends[:-1])
    same = [fingerprint(piece) == sha for piece, (_, sha) in zip(pieces, index.parts)]
    return np.shape(vectors) == (index.count, index.dim) and all(same)
