"""Tables as files: reading what others wrote, strictly; reading and writing our own, so that names stay as they are."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

#: columns that hold names or text, whatever they look like: an image may be called 007 or NA
TEXT = ("image", "image1", "image2", "query", "query_image", "retrieved_image", "file_label", "reason", "strategy",
        "class", "query class")


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
        that stands twice.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) or [[]]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got byte {error.start}; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as CSV: {error}") from None
    header = [name.strip() for name in header]
    numbered = {number: row for number, row in enumerate(rows, start=2) if any(row)}
    for number, row in numbered.items():
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number}: expected {len(header)} fields, got {len(row)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: a column stands twice in the header {', '.join(header)}; rename one")
    return pd.DataFrame(list(numbered.values()), columns=header, dtype=str, index=list(numbered))


def read_own(path: Path, **types: type) -> pd.DataFrame:
    """Read a CSV of this package: only an empty cell is a missing value, the columns of ``TEXT`` are text.

    types : of further columns, by name
    """
    kinds = dict.fromkeys(TEXT, str) | types
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])


def write_own(table: pd.DataFrame, path: Path, decimals: int | None = None) -> None:
    """Write a CSV that ``read_own`` reads back alike; `decimals` of numbers, as many as they have when not given."""
    text = [name for name in TEXT if name in table]
    returns = any(table[name].astype(str).str.contains("\r").any() for name in text)  # csv quotes them when told to
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8",
                 quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL,
                 float_format=None if decimals is None else f"%.{decimals}f")


def numbers_where_all_are(column: pd.Series) -> pd.Series:
    """A column of text as numbers, where each of its cells is one or empty, and at least one is."""
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    return numbers if numbers.notna().any() and (numbers.notna() == (column != "")).all() else column
