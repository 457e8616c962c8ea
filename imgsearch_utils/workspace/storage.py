"""The workspace's place, and files written whole: JSON, digests, folders replaced in one step."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock


def source() -> Path:
    """The checkout: notebooks and configs."""
    return Path(__file__).resolve().parents[2]


def home() -> Path:
    """Where data sets and results are kept: the checkout, or the folder named by IMGSEARCH_HOME."""
    return Path(os.environ.get("IMGSEARCH_HOME") or source()).resolve()


def shown(path: Path) -> str:
    """A path for people: relative to the workspace where it lies inside."""
    path = Path(path).resolve()
    return path.relative_to(home()).as_posix() if path.is_relative_to(home()) else str(path)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either the old or the new one, whenever the power goes."""
    with open_atomic(path) as file:
        file.write(text)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[TextIO]:
    """As ``write_atomic``, for a file that is written in parts; what a killed writer left, the next
    overwrites.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write a file into; it takes the place of `path` in the end, so none
    is ever half there.

    Where writing fails, what stood there stays. A device or a pipe is written into as it stands.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = Path(os.path.realpath(path))  # the file that a link names, not the link
    partial = path.with_name(f".{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        if path.is_dir() or not path.parent.is_dir():
            number = errno.EISDIR if path.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(path))
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # people know nothing of the file beside theirs
        if error.errno and error.filename in (str(partial), None):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def folder_lock(folder: Path) -> FileLock:
    """The lock that writers of a folder hold; a file beside it."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Build a folder beside its place and move it there in the end, replacing what stood there.

    Writers come one after the other. On Linux old and new change places in one step, so that a
    reader finds a folder at every moment; where the file system cannot, a reader that misses it
    looks again under the ``folder_lock``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        if not folder.exists():
            partial.rename(folder)
        elif _exchange(partial, folder):
            shutil.rmtree(partial, ignore_errors=True)  # a reader may be writing its stamp there
        else:
            old = folder.with_name(f"{folder.name}.old.partial")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, two: Path) -> bool:
    """Let two names change places in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    at_cwd, exchange = -100, 2  # of <fcntl.h> and <stdio.h>
    return (
        rename is not None
        and rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(two), exchange) == 0
    )


def write_json(path: Path, values: Any) -> None:
    """Write JSON with sorted keys, in one step."""
    write_atomic(path, json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def digest(path: Path, n_bytes: int | None = None) -> str:
    """SHA-256 of a file's content, or of its first bytes."""
    with path.open("rb") as file:
        if n_bytes is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha256 = hashlib.sha256()
        while n_bytes > 0 and (block := file.read(min(n_bytes, 1 << 20))):
            sha256.update(block)
            n_bytes -= len(block)
        return sha256.hexdigest()


def stamp(path: Path) -> list[int]:
    """What tells that a file was changed or replaced, without reading it: size, inode, times of
    change.
    """
    about = path.stat()
    return [about.st_size, about.st_ino, about.st_mtime_ns, about.st_ctime_ns]


def read_json(path: Path, *keys: str) -> Any:
    """Read a JSON file; with `keys`, an object that has them. ValueError names the file when it is
    not one.
    """
    again = "restore it from a copy, or remove its folder and run the study again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not readable as JSON: {' '.join(str(error).split())}; {again}"
        ) from None
    if keys and not isinstance(values, dict):
        raise ValueError(
            f"{path}: expected an object with {', '.join(keys)}, got {type(values).__name__}; "
            f"{again}"
        )
    if lacking := [key for key in keys if key not in values]:
        raise ValueError(f"{path}: {', '.join(lacking)} is missing; {again}")
    return values
