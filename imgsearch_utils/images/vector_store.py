"""Vectors and names on disk: a folder that grows at its end, and is known by the digests of its
chunks.

``vectors.npy`` and ``names.csv`` are only appended to; ``config.json``, which is replaced in one
step, says how many rows count. So what a writer left behind when it was stopped is not read, and
the next one overwrites it."""

import contextlib
import csv
import hashlib
import io
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.workspace import (
    atomic_path,
    folder_lock,
    read_json,
    replace_folder,
    stamp,
    write_json,
)

VECTORS, NAMES, CONFIG = FILES = ("vectors.npy", "names.csv", "config.json")
# the digest that a folder had when it was last read wholly, and the files' stamps then
STAMP = ".verified.json"
# that digest, the names and the pictures' digests between NULs: reading a large CSV takes seconds
QUICK = ".names"
CHUNK = 4096  # rows that have a digest of their own
HINT = "remove it, and what is not there is encoded again"


class Stored(NamedTuple):
    """What a folder holds.

    names : n image names
    vectors : (n, d) float32, memory-mapped
    config : what made them
    digests : n SHA-256 of the picture files
    sha256 : of all that
    """

    names: list[str]
    vectors: np.ndarray
    config: dict
    digests: list[str]
    sha256: str


class _Contents(NamedTuple):
    """What config.json says beside the configuration: how many rows count, and where in names.csv
    each chunk ends.
    """

    rows: int
    # bytes of names.csv up to the chunk's end, SHA-256 of its vectors and its lines
    chunks: list[list]

    @property
    def names_end(self) -> int:
        return self.chunks[-1][0] if self.chunks else 0

    def digest(self, config: dict) -> str:
        return hashlib.sha256(
            json.dumps([self.chunks, plain(config)], sort_keys=True).encode()
        ).hexdigest()

    def described(self, config: dict) -> dict:
        return {**plain(config), "digest": self.digest(config), **self._asdict()}


def plain(config: dict) -> dict:
    """A configuration as it is read back from JSON."""
    return json.loads(json.dumps(config, default=str))


def save(
    folder: Path, names: Sequence[str], vectors: np.ndarray, config: dict, digests: Sequence[str]
) -> None:
    """Write a folder, replacing what stood there in one step; vectors (n, d), a digest a name or
    none at all.
    """
    with replace_folder(folder) as partial, (partial / NAMES).open("wb") as text:
        np.save(partial / VECTORS, np.ascontiguousarray(vectors, np.float32))
        digests = list(digests) or [""] * len(names)
        contents = _Contents(len(names), list(_written(text, vectors, names, digests)))
        text.close()
        write_json(partial / CONFIG, contents.described(config))
        _remember(partial, contents.digest(config), names, digests)


def append(
    folder: Path, sha256: str, names: Sequence[str], vectors: np.ndarray, digests: Sequence[str]
) -> None:
    """Write further rows at the end of a folder that is known by `sha256`; what is there is not
    written again.

    Raises
    ------
    ValueError
        where another process changed it since it was read.
    """
    with folder_lock(folder):
        config, contents, saved = _described(folder)
        if saved != sha256:
            raise ValueError(
                f"{folder}: was changed by another process since it was read; try again"
            )
        whole_chunks = contents.rows // CHUNK
        known_chunks, start = contents.chunks[:whole_chunks], whole_chunks * CHUNK
        before = known_chunks[-1][0] if known_chunks else 0
        tail = np.array(_mapped(folder / VECTORS, contents.rows)[start:])
        with (folder / NAMES).open("r+b") as text, (folder / VECTORS).open("r+b") as file:
            data = _start_of_data(file)
            text.seek(before)
            lines = text.read(contents.names_end - before)
            _cut(text, contents.names_end)
            _cut(file, data + contents.rows * tail.shape[1] * 4)
            vectors = np.ascontiguousarray(vectors, np.float32)
            vectors.tofile(file)
            added = _chunks(np.concatenate([tail, vectors]), lines, text, names, digests, before)
            contents = _Contents(contents.rows + len(names), [*known_chunks, *added])
            for opened in (text, file):
                opened.flush()
                os.fsync(opened.fileno())
            # from here on the new rows count
            write_json(folder / CONFIG, contents.described(config))
            file.seek(0)
            np.lib.format.write_array_header_1_0(
                file,
                {"descr": "<f4", "fortran_order": False, "shape": (contents.rows, tail.shape[1])},
            )
        old = _quick(folder, saved, _remembered(folder).get("names"))
        if old:
            n = len(old) // 2
            _remember(folder, contents.digest(config), [*old[:n], *names], [*old[n:], *digests])


def read(folder: Path, again: bool = False) -> Stored:
    """Read a folder; ValueError where its three files do not agree, or are not what was saved.

    again : read all of it, whatever the stamp says, and write no stamp
    """
    try:
        stamps, (config, contents, saved) = _stamps(folder), _described(folder)
        remembered = _remembered(folder)
        unchanged = (remembered.get("digest"), remembered.get("stamps")) == (saved, stamps)
        vectors = _mapped(folder / VECTORS, contents.rows)
        quick = _quick(folder, saved, remembered.get("names")) if unchanged and not again else []
        names, digests = _halves(quick) if quick else _listed(folder, contents.names_end)
        if len(vectors) != len(names):
            raise ValueError(f"{len(vectors)} vectors for the {len(names)} names in names.csv")
    except (OSError, EOFError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{folder}: not a folder of embeddings: {' '.join(str(error).split())}; {HINT}"
        ) from None
    if (again or not unchanged) and not _is_whole(folder, config, contents, saved):
        raise ValueError(
            f"{folder}: vectors, names and configuration are not those that were saved together "
            "(by the digest in config.json). Restore the folder from a copy, or remove it and make "
            "it again: imgsearch embed (of a head: imgsearch index)"
        )
    if _stamps(folder) != stamps:
        raise ValueError(f"{folder}: was replaced while it was read; try again")
    if not quick and not again:
        with contextlib.suppress(OSError):  # read-only: it is read wholly each time
            _remember(folder, saved, names, digests)
    return Stored(names, vectors, config, digests, saved)


def _described(folder: Path) -> tuple[dict, _Contents, str]:
    """The configuration, what it says of the rows, and the digest of all."""
    config = read_json(folder / CONFIG, "encoder", "digest", "rows", "chunks")
    saved, rows, chunks = (config.pop(name) for name in ("digest", "rows", "chunks"))
    return config, _Contents(int(rows), [[int(end), str(sha)] for end, sha in chunks]), str(saved)


def _mapped(file: Path, rows: int) -> np.ndarray:
    """The first rows of a .npy file, whatever its header says of their number."""
    with file.open("rb") as opened:
        data = _start_of_data(opened)
        opened.seek(0)
        np.lib.format.read_magic(opened)
        shape, fortran, kind = np.lib.format.read_array_header_1_0(opened)
    if len(shape) != 2 or fortran or kind != np.float32:
        raise ValueError(
            f"vectors.npy is {kind} {shape}, expected float32 ({rows}, d) for the names in "
            "names.csv"
        )
    if not rows * shape[1]:
        return np.empty((rows, shape[1]), np.float32)
    return np.memmap(file, np.float32, "r", data, (rows, shape[1])).view(np.ndarray)


def drop_page_cache(vectors: np.ndarray) -> None:
    """Give back the memory of a mapped file's pages; they are read again where somebody looks at
    them.
    """
    base = vectors
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _start_of_data(file: BinaryIO) -> int:
    file.seek(0)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


def _listed(folder: Path, end: int) -> tuple[list[str], list[str]]:
    """Names and digests as names.csv lists them, up to a byte."""
    with (folder / NAMES).open("rb") as file:
        table = pd.read_csv(io.BytesIO(file.read(end)), dtype=str, keep_default_na=False)
    if table.image.duplicated().any():
        twice = table.image[table.image.duplicated()].iloc[0]
        raise ValueError(f"{twice!r} is named more than once")
    return table.image.tolist(), table.sha256.tolist()


def _lines(names: Sequence[str], digests: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        zip(names, digests, strict=True)
    )
    return text.getvalue().encode()


def _written(
    text: BinaryIO, vectors: np.ndarray, names: Sequence[str], digests: Sequence[str]
) -> Iterator[list]:
    """Write names.csv, and give the chunks."""
    lines = _lines(["image"], ["sha256"])
    text.write(lines)
    yield from _chunks(vectors, lines, text, names, digests, 0)


def _chunks(
    vectors: np.ndarray,
    lines: bytes,
    text: BinaryIO,
    names: Sequence[str],
    digests: Sequence[str],
    before: int,
) -> Iterator[list]:
    """Write the lines of names, and give each chunk's end and digest.

    vectors : from the first row of a chunk on, of rows that have lines already and of those named
    lines : those there are, of that chunk; they begin at byte `before`
    """
    rows_before, end = len(vectors) - len(names), before + len(lines)
    for start in range(0, len(vectors), CHUNK):
        of_chunk = slice(max(0, start - rows_before), max(0, start + CHUNK - rows_before))
        new_lines = _lines(names[of_chunk], digests[of_chunk])
        text.write(new_lines)
        lines, end = lines + new_lines, end + len(new_lines)
        chunk_digest = hashlib.sha256(
            np.ascontiguousarray(vectors[start : start + CHUNK], np.float32)
        )
        chunk_digest.update(lines)
        yield [end, chunk_digest.hexdigest()]
        lines = b""


def _is_whole(folder: Path, config: dict, contents: _Contents, saved: str) -> bool:
    """Whether all that counts in a folder is what its digest says."""
    vectors, before = _mapped(folder / VECTORS, contents.rows), 0
    with (folder / NAMES).open("rb") as text:
        for number, (end, sha256) in enumerate(contents.chunks):
            chunk_digest = hashlib.sha256(
                np.ascontiguousarray(vectors[number * CHUNK : (number + 1) * CHUNK])
            )
            chunk_digest.update(text.read(end - before))
            before = end
            if chunk_digest.hexdigest() != sha256:
                return False
    return len(contents.chunks) == -(-contents.rows // CHUNK) and contents.digest(config) == saved


def _cut(file: BinaryIO, end: int) -> None:
    """Go to the end of what counts, and throw away what a stopped writer left behind it."""
    if file.seek(0, os.SEEK_END) != end:
        file.truncate(end)
    file.seek(end)


def _stamps(folder: Path) -> list[list[int]]:
    """What tells that a file was changed or replaced, for each of the three where they are
    there.
    """
    return [stamp(folder / name) for name in FILES]


def _remembered(folder: Path) -> dict:
    try:
        return read_json(folder / STAMP, "digest", "stamps")
    except ValueError:  # there is none
        return {}


def _remember(folder: Path, sha256: str, names: Sequence[str], digests: Sequence[str]) -> None:
    """Note that a folder was read or written wholly, and what it names."""
    with atomic_path(folder / QUICK) as partial:
        partial.write_text("\0".join([sha256, *names, *digests]), encoding="utf-8", newline="")
    write_json(
        folder / STAMP,
        {"digest": sha256, "stamps": _stamps(folder), "names": stamp(folder / QUICK)},
    )


def _quick(folder: Path, sha256: str, written: list[int] | None) -> list[str]:
    """Names, then digests, as they were remembered of a folder with this digest; empty where they
    were not.

    written : its stamp, when it was
    """
    try:
        if stamp(folder / QUICK) != written:
            return []
        known_digest, *both = (folder / QUICK).read_bytes().decode("utf-8").split("\0")
    except (OSError, ValueError):
        return []
    return both if known_digest == sha256 else []


def _halves(both: list[str]) -> tuple[list[str], list[str]]:
    return both[: len(both) // 2], both[len(both) // 2 :]
