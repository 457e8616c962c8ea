"""Tables as files: reading what others wrote, strictly; reading and writing our own, so that names stay as they are."""

import contextlib
import csv
import io
import stat
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.study import listed
from imgsearch_utils.workspace import KEPT, written_whole

#: columns that hold names or text, whatever they look like: an image may be called 007 or NA
TEXT = ("image", "image1", "image2", "query", "query_image", "retrieved_image", "file_label", "reason", "strategy",
        "class", "query class")
MOST_COLUMNS, MOST_BYTES = 1_000, 2_000_000_000  # more is no table of people's


def read_foreign(path: Path) -> pd.DataFrame:
    """Read a CSV that somebody else wrote: commas, semicolons or tabs, any line ends, with or without a BOM.

    Returns
    -------
    DataFrame
        every cell as text, column names without blanks around them; the index is the row in the file, the header
        being row 1, so that messages can name it. Blank lines are left out.

    Raises
    ------
    ValueError
        one line with the file and what is wrong: no such file, not UTF-8, no CSV, a row of another length, a column
        that stands twice, more than 1,000 columns.
    """
    try:
        text = _content(Path(path)).decode("utf-8-sig")
        delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) or [[]]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got byte {error.start}; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as CSV: {error}") from None
    if "\0" in text:
        raise ValueError(f"{path}: expected UTF-8 text, got a NUL byte; save it as CSV UTF-8")
    header = [name.strip() for name in header]
    if len(header) > MOST_COLUMNS:
        raise ValueError(f"{path}: expected at most {MOST_COLUMNS:,} columns, got {len(header):,}; keep those you need")
    numbered = {number: row for number, row in enumerate(rows, start=2) if any(row)}
    for number, row in numbered.items():
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number}: expected {len(header)} fields, got {len(row)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: a column stands twice in the header {listed(header)}; rename one")
    return pd.DataFrame(list(numbered.values()), columns=header, dtype=str, index=list(numbered))


def _content(path: Path) -> bytes:
    """The bytes of a file, or of a shell's ``<(command)``; a FIFO could make us wait for ever."""
    about = path.stat()
    piped = stat.S_ISFIFO(about.st_mode) and str(path).startswith(("/dev/", "/proc/"))
    if not (stat.S_ISREG(about.st_mode) or piped):
        kind = "folder" if stat.S_ISDIR(about.st_mode) else "FIFO, a socket or a device"
        raise ValueError(f"{path}: expected a CSV file, got a {kind}")
    if about.st_size > MOST_BYTES:
        raise ValueError(f"{path}: expected at most {MOST_BYTES / 1e9:.0f} GB; cut it into several files")
    return path.read_bytes()


def read_own(path: Path, **types: type) -> pd.DataFrame:
    """Read a CSV of this package: only an empty cell is a missing value, the columns of ``TEXT`` are text.

    types : of further columns, by name
    """
    kinds = dict.fromkeys(TEXT, str) | types
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])


def write_own(table: pd.DataFrame, target: str | Path | io.TextIOBase, decimals: int | None = None) -> None:
    """Write a CSV that ``read_own`` reads back alike; `decimals` of numbers, as many as they have when not given.

    target : a path, which is written whole or not at all; or an open text file
    """
    text = table.select_dtypes(exclude="number")
    returns = any(text[name].astype(str).str.contains("\r").any() for name in text)  # csv quotes them when told to
    whole = written_whole(target) if isinstance(target, str | Path) else contextlib.nullcontext(target)
    with whole as file:
        table.to_csv(file, index=False, lineterminator="\n", encoding="utf-8",
                     quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL,
                     float_format=None if decimals is None else f"%.{decimals}f")


def numbers_where_all_are(column: pd.Series) -> pd.Series:
    """A column of text as numbers, where each of its cells is one or empty, and at least one is.

    Names of digits, which a number would change (007, more than 15 digits), are text.
    """
    if column.str.match(r"[+-]?(?:0\d|\d{16})").any():
        return column
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    finite = np.isfinite(numbers)
    return numbers if finite.any() and (finite == (column != "")).all() else column


KEPT[".csv"] = (write_own, read_own)


def intervals(table: pd.DataFrame, mean: str = "mean", low: str = "low", high: str = "high",
              sign: str = "") -> list[str]:
    """A mean with its interval in words, of each row; `sign` "+" for differences."""
    return [f"{one:{sign}.3f} [{two:{sign}.3f}, {three:{sign}.3f}]" for one, two, three in
            table[[mean, low, high]].to_numpy(float)]
