"""Tables as files: reading what others wrote, strictly; reading and writing our own, so that names
stay as they are.
"""

import contextlib
import csv
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.study import listed
from imgsearch_utils.workspace import KEPT, atomic_path

#: columns that hold names or text, whatever they look like: an image may be called 007 or NA
TEXT = (
    "image",
    "image1",
    "image2",
    "query",
    "query_image",
    "closer",
    "farther",
    "retrieved_image",
    "file_label",
    "reason",
    "strategy",
    "class",
    "query class",
)
MOST_COLUMNS, MOST_LETTERS = 1_000, 10_000_000  # of a line; more is no table of people's
PART = 50_000  # rows that are read at once


def read_user_csv(path: Path) -> pd.DataFrame:
    """Read a CSV that somebody else wrote: commas, semicolons or tabs, any line ends, with or
    without a BOM.

    Returns
    -------
    DataFrame every cell as text, column names without blanks around them; the index is the row in
        the file, the header being row 1, so that messages can name it. Blank lines are left out.

    Raises
    ------
    ValueError one line with the file and what is wrong: no such file, not UTF-8, no CSV, a row of
        another length, a column that stands twice, more than 1,000 columns.
    """
    return pd.concat(user_csv_parts(path))


def user_csv_parts(
    path: Path, rows: int = PART, watch: Callable[[int, int], None] = lambda *_: None
) -> Iterator[pd.DataFrame]:
    """``read_user_csv`` in parts of so many rows, for a file that may be larger than memory; at
    least one part.

    watch : is told how many bytes of how many are read, after each part; of a pipe nobody knows how
    many there are"""
    path = Path(path)
    try:
        with _opened(path) as file:
            size, text = (
                os.fstat(file.fileno()).st_size,
                io.TextIOWrapper(file, "utf-8-sig", newline=""),
            )
            lines = _lines(text, path)
            first = next(lines, "")
            delimiter = max(",;\t", key=first.count)
            table = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            header, numbered = _header(next(table, []), path), enumerate(table, start=2)
            parts = iter(lambda: list(itertools.islice(numbered, rows)), [])
            for part in itertools.chain([next(parts, [])], parts):
                part = [(number, row) for number, row in part if any(row)]
                for number, row in part:
                    if len(row) != len(header):
                        raise ValueError(
                            f"{path}: row {number}: expected {len(header)} fields, got {len(row)}"
                        )
                yield pd.DataFrame(
                    [row for _, row in part],
                    columns=header,
                    dtype=str,
                    index=[number for number, _ in part],
                )
                watch(file.tell() if file.seekable() else 0, size)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}: expected UTF-8 text, got {_first_bad_byte(path)}; save it as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as CSV: {error}") from None


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := file.readline(MOST_LETTERS):
        if "\0" in line:
            raise ValueError(f"{path}: expected UTF-8 text, got a NUL byte; save it as CSV UTF-8")
        if len(line) == MOST_LETTERS:
            raise ValueError(
                f"{path}: expected a CSV, got a line of {MOST_LETTERS:,} letters or more"
            )
        yield line


def _header(names: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in names]
    if len(names) > MOST_COLUMNS:
        raise ValueError(
            f"{path}: expected at most {MOST_COLUMNS:,} columns, got {len(names):,}; keep those "
            "you need"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: a column stands twice in the header {listed(names)}; rename one")
    return names


def _first_bad_byte(path: Path) -> str:
    if path.is_file():
        try:
            path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return f"byte {error.start}"
    return "other bytes"


def _opened(path: Path) -> io.BufferedReader:
    """A file, or a shell's ``<(command)``; a FIFO could make us wait for ever."""
    about = path.stat()
    piped = stat.S_ISFIFO(about.st_mode) and str(path).startswith(("/dev/", "/proc/"))
    if not (stat.S_ISREG(about.st_mode) or piped):
        kind = "folder" if stat.S_ISDIR(about.st_mode) else "FIFO, a socket or a device"
        raise ValueError(f"{path}: expected a CSV file, got a {kind}")
    return path.open("rb")


def read_table(path: Path, **types: type) -> pd.DataFrame:
    """Read a CSV of this package: only an empty cell is a missing value, the columns of ``TEXT``
    are text.

    types : of further columns, by name
    """
    kinds = dict.fromkeys(TEXT, str) | types
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])


def write_table(
    table: pd.DataFrame,
    target: str | Path | io.TextIOBase,
    decimals: int | None = None,
    header: bool = True,
) -> None:
    """Write a CSV that ``read_table`` reads back alike; `decimals` of numbers, as many as they have
    when not given.

    target : a path, which is written whole or not at all; or an open text file
    header : off for a further part of a table
    """
    text = table.select_dtypes(exclude="number")
    # csv quotes them when told to
    returns = any(text[name].astype(str).str.contains("\r").any() for name in text)
    whole = (
        atomic_path(target) if isinstance(target, str | Path) else contextlib.nullcontext(target)
    )
    with whole as file:
        table.to_csv(
            file,
            index=False,
            header=header,
            lineterminator="\n",
            encoding="utf-8",
            quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL,
            float_format=None if decimals is None else f"%.{decimals}f",
        )


def numbers_where_all_are(column: pd.Series) -> pd.Series:
    """A column of text as numbers, where each of its cells is one or empty, and at least one is.

    Names of digits, which a number would change (007, more than 15 digits), are text.
    """
    if column.str.match(r"[+-]?(?:0\d|\d{16})").any():
        return column
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    finite = np.isfinite(numbers)
    return numbers if finite.any() and (finite == (column != "")).all() else column


KEPT[".csv"] = (write_table, read_table)


def intervals(
    table: pd.DataFrame, mean: str = "mean", low: str = "low", high: str = "high", sign: str = ""
) -> list[str]:
    """A mean with its interval in words, of each row; `sign` "+" for differences."""
    return [
        f"{one:{sign}.3f} [{two:{sign}.3f}, {three:{sign}.3f}]"
        for one, two, three in table[[mean, low, high]].to_numpy(float)
    ]
