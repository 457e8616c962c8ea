"""Tables that say what is on pictures: ``labels.csv``, or ``metadata.csv`` and ``metadata.jsonl``
of Hugging Face image folders; and which picture each of their rows means, however it is written.
"""

import difflib
import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pandas as pd

from imgsearch_utils.study import listed
from imgsearch_utils.workspace.tables import read_user_csv

RESERVED = ("image", "group", "side")  # columns of the package's own tables
NAMED_BY = ("file_label", "file_name", "filename")  # the column that names a row's picture
MOST_TO_COMPARE = 20_000  # names among which the nearest is looked for


def label_tables(folder: Path) -> list[Path]:
    """The tables of a data set: its labels.csv, else each metadata.csv or metadata.jsonl in the
    folder or two levels below.
    """
    if os.path.lexists(folder / "labels.csv"):
        return [folder / "labels.csv"]
    return sorted(
        path
        for level in ("", "*/", "*/*/")
        for kind in ("csv", "jsonl")
        for path in folder.glob(f"{level}metadata.{kind}")
        if path.is_file()
    )


def read_labels(path: Path) -> pd.DataFrame:
    """Read `file_label` + one column per level of class, as ``tables.read_user_csv`` does.

    `file_name`, or `filename`, may stand in place of `file_label`; a ``.jsonl`` file has an object
    a line, of which plain values are read.

    Returns
    -------
    `image` and the classes as text, without blanks around them

    Raises
    ------
    ValueError one line with what was expected and got: no CSV, a column absent or with a name that
        is taken, an image listed twice.
    """
    table = _read_lines(path) if path.suffix == ".jsonl" else read_user_csv(path)
    table = table.reset_index(drop=True)
    named_by = [name for name in NAMED_BY if name in table]
    if not named_by:
        raise ValueError(f"{path}: expected a column file_label, got {listed(table)}")
    table = table.rename(columns={named_by[0]: "file_label"})
    if reserved := [name for name in table if name in RESERVED]:
        raise ValueError(
            f"{path}: the column {reserved[0]!r} is one of {', '.join(RESERVED)}; rename it"
        )
    if "" in table:
        raise ValueError(f"{path}: a column has no name; name it, or remove it")
    twice = table.file_label[table.file_label.duplicated()]
    if len(twice):
        raise ValueError(
            f"{path}: {twice.iloc[0]!r} is listed more than once; keep one row per image"
        )
    classes = table.drop(columns="file_label").apply(lambda column: column.str.strip())
    return pd.concat([table.file_label.rename("image"), classes], axis=1)


def read_tables(folder: Path, tables: Sequence[Path]) -> pd.DataFrame:
    """The rows of several tables, of which each names pictures from its own place on."""
    parts = []
    for path in tables:
        part, place = read_labels(path), path.parent.relative_to(folder)
        if place.parts:
            part["image"] = [(place / name).as_posix() for name in part.image]
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).fillna("")
    twice = table.image[table.image.duplicated()]
    if len(twice):
        raise ValueError(
            f"{folder}: {twice.iloc[0]!r} is listed more than once in "
            f"{listed(path.relative_to(folder) for path in tables)}; keep one row per image"
        )
    return table


def _read_lines(path: Path) -> pd.DataFrame:
    rows = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                row = json.loads(line) if line.strip() else {}
                if not isinstance(row, dict):
                    raise ValueError(f"row {number}: expected an object, got {line[:40]!r}")
                rows += [plain_cells(row)] if row else []
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON lines: {error}") from None
    return pd.DataFrame(rows, dtype=object).fillna("").astype(str)


def plain_cells(said: dict) -> dict[str, str]:
    """The values that a cell can hold, as text."""
    return {
        str(name): " ".join(str(value).split())
        for name, value in said.items()
        if isinstance(value, str | int | float | bool) and value == value
    }


def find_listed(names: Sequence[str], files: Sequence[str], where: object) -> dict[str, str]:
    """The picture that each listed name means, where it means one; a name is absent where it means
    none.

    A name may be written otherwise than its picture: by other capital letters, letters and accents
    in one or in two (a Mac's), ``\\``, ``%20``, blanks around it, with folders before it or without
    them, without its suffix. A picture that is named exactly is that one.

    names : as a table lists them
    files : pictures that are there, from the place where pictures are

    Raises
    ------
    ValueError
        where a name could mean two pictures, or two names one
    """
    there = {*files}
    meant = {name: name for name in names if name in there}
    strangers = [name for name in names if name not in meant and ".." not in _parts(name, False)]
    if not strangers:
        return meant
    free, by_end = there - {*meant}, {}
    for file in free:
        parts = _parts(file, False)
        for end in {parts[-1], PurePosixPath(parts[-1]).stem} if parts else ():
            by_end.setdefault(end, []).append((file, parts))
    listed_by: dict[str, str] = {}
    for name in strangers:
        candidates = _meant(name, by_end)
        if len(candidates) > 1:
            raise ValueError(
                f"{where}: {name!r} may be {candidates[0]!r} or {candidates[1]!r}; write the name "
                "of the one that is meant"
            )
        for file in candidates:
            if file in listed_by:
                raise ValueError(
                    f"{where}: {listed_by[file]!r} and {name!r} both mean {file!r}; keep one row "
                    "per image"
                )
            listed_by[file], meant[name] = name, file
    return meant


def _parts(name: str, quoted: bool) -> tuple[str, ...]:
    """The parts of a path as they are compared, whatever wrote it."""
    plain = unquote(name) if quoted else name
    plain = unicodedata.normalize("NFC", plain.replace("\\", "/")).strip().casefold()
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _meant(name: str, by_end: dict[str, list[tuple[str, tuple[str, ...]]]]) -> list[str]:
    """The pictures that a name may mean: those of the best way to read it."""
    for quoted in (False, True) if "%" in name else (False,):
        parts = _parts(name, quoted)
        if not parts:
            continue
        fits = []
        for file, there in by_end.get(parts[-1], []):
            whole = there[-1] == parts[-1]
            tail = min(len(there), len(parts))
            if there[-tail:-1] == parts[-tail:-1]:
                same_depth = len(there) == len(parts)
                letters = _cased(name, quoted) == _cased(file, False)
                fits.append((not whole, not same_depth, not letters, file))
        if fits:
            best = min(fits)[:3]
            return sorted(file for *how, file in fits if tuple(how) == best)
    return []


def _cased(name: str, quoted: bool) -> str:
    """The last part of a path as it is written, accents in one."""
    plain = unicodedata.normalize("NFC", unquote(name) if quoted else name)
    return PurePosixPath(plain.replace("\\", "/").strip()).name


def nearest_file(name: str, files: Sequence[str]) -> str:
    """What to say of a name that means no picture: the nearest that is there; perhaps nothing."""
    close = difflib.get_close_matches(name[:200], files[:MOST_TO_COMPARE], n=1)
    return f"; the nearest is {close[0]!r}" if close else ""
