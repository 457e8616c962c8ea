"""What is known of each image beside its vector: its labels, in SQLite, so that few are read and
any can be found.
"""

import contextlib
import functools
import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgsearch_utils.images.near_pairs import MANY
from imgsearch_utils.study import listed
from imgsearch_utils.workspace import atomic_path

# a label of that name gets another
TAKEN = ("query", "rank", "score", "p_similar", "close", "rowid", "oid", "_rowid_")
PATIENCE = 5  # seconds that a condition may take
LONGEST, MOST_LETTERS = 10_000, 1_000_000  # letters of a condition, and of a text that it may make
AT_ONCE = 500  # rows that are looked up by one statement
_ANY = "image LIKE 'a%'"
ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)


class Metadata:
    """The labels of a database's images, row by row as its vectors; an empty cell is NULL to a
    condition.

    columns : their names, without `image`
    classes : those that are classes, from coarse to fine
    """

    def __init__(self, connection: sqlite3.Connection):
        self._asked, self._turn = connection, threading.Lock()
        [(self.known_as, classes)] = connection.execute("SELECT known_as, classes FROM about")
        self.columns = [
            name for name, *_ in connection.execute("SELECT * FROM images LIMIT 0").description
        ][1:]
        self.classes = json.loads(classes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_LETTERS)
        connection.set_authorizer(
            lambda what, *_: sqlite3.SQLITE_OK if what in ALLOWED else sqlite3.SQLITE_DENY
        )

    @classmethod
    def open(
        cls,
        file: Path,
        known_as: str,
        names: list[str],
        read: Callable[[], tuple[pd.DataFrame, list[str]]],
    ) -> "Metadata":
        """What is kept of these images; made where it is not there, or is of others.

        Parameters
        ----------
        known_as : of the images and where their labels come from: another one, and they are read
            again
        names : of the images, in the order of their vectors
        read : gives a table of labels with a column `image`, and the names of those that are
            classes; empty cells for images that the table lacks
        """
        # there is none, it is none, or it is of others
        with contextlib.suppress(sqlite3.Error, OSError, ValueError):
            there = cls(_connected(file))
            if there.known_as == known_as:
                return there
        labels, classes = read()
        try:
            with atomic_path(file) as partial:
                _fill(sqlite3.connect(partial), known_as, names, labels, classes).close()
            return cls(_connected(file))
        except OSError:  # read-only: it is made for this one time
            return cls.in_memory(names, labels, classes)

    @classmethod
    def in_memory(
        cls, names: list[str], labels: pd.DataFrame, classes: Sequence[str] = ()
    ) -> "Metadata":
        """The same, kept in no file."""
        return cls(
            _fill(sqlite3.connect(":memory:", check_same_thread=False), "", names, labels, classes)
        )

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The labels (n,) of rows, by column, as text."""
        if self._all is not None:
            return {name: values[rows] for name, values in self._all.items()}
        found: dict[int, tuple] = {}
        wanted = (np.unique(rows) + 1).tolist()
        for at in range(0, len(wanted), AT_ONCE):
            some = wanted[at : at + AT_ONCE]
            found |= {
                row: values
                for row, *values in self._rows(
                    f"SELECT rowid, {', '.join(map(_quoted, self.columns)) or 'image'} FROM images "
                    f"WHERE rowid IN ({','.join('?' * len(some))})",
                    some,
                )
            }
        return {
            name: np.array([_text(found[row + 1][at]) for row in rows.tolist()], object)
            for at, name in enumerate(self.columns)
        }

    def table(self) -> pd.DataFrame:
        """The labels of all images, as text."""
        rows = self._rows("SELECT * FROM images ORDER BY rowid")
        return pd.DataFrame(
            [list(map(_text, row[1:])) for row in rows], columns=self.columns, dtype=object
        )

    def where(self, condition: str) -> np.ndarray:
        """Rows of the images for which a condition of SQL holds, e.g. ``house_type = 'modern' AND
        year > 1990``.

        Raises
        ------
        ValueError
            for what is no condition, names a column that is not there, or takes too long.
        """
        if len(condition) > LONGEST:
            raise ValueError(
                f"no condition that can be asked: {len(condition):,} letters, at most {LONGEST:,}"
            )
        failed = ""
        with self._turn:
            until = time.monotonic() + PATIENCE
            self._asked.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            try:
                return np.array(
                    [
                        row - 1
                        for (row,) in self._asked.execute(
                            f"SELECT rowid FROM images WHERE ({condition}\n) ORDER BY rowid"
                        )
                    ],
                    np.int64,
                )
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                failed = (
                    "it takes too long"
                    if "interrupted" in str(error)
                    else " ".join(str(error).split())[:200]
                )
            finally:
                self._asked.set_progress_handler(None, 0)
        raise ValueError(
            f"no condition that can be asked: {condition[:200]!r}: {failed}; write for example "
            f"{self.example() or _ANY}; the columns are {listed(['image', *self.columns])}"
        )

    def example(self) -> str:
        """A condition that holds for the first image; empty where there are no labels."""
        if not self.columns:
            return ""
        name, [value] = self.columns[0], self.of(np.zeros(1, int))[self.columns[0]]
        value = value.replace("'", "''")
        return f"{name if re.fullmatch('[A-Za-z_]+', name) else _quoted(name)} = '{value}'"

    def _rows(self, statement: str, values: Any = ()) -> list[tuple]:
        with self._turn:
            return self._asked.execute(statement, values).fetchall()

    @functools.cached_property
    def _all(self) -> dict[str, np.ndarray] | None:
        """Every column, where there are not many images."""
        [(n,)] = self._rows("SELECT max(rowid) FROM images")
        return (
            {name: column.to_numpy(object) for name, column in self.table().items()}
            if (n or 0) <= MANY
            else None
        )


def _connected(file: Path) -> sqlite3.Connection:
    if not file.is_file():
        raise ValueError(f"{file} is not there")
    return sqlite3.connect(
        f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str | int | None) -> str:
    return "" if value is None else str(value)


def _fill(
    new: sqlite3.Connection,
    known_as: str,
    names: list[str],
    labels: pd.DataFrame,
    classes: Sequence[str],
) -> sqlite3.Connection:
    """Whole numbers are kept as such, so that they can be compared; everything else is text."""
    labels = labels.set_index("image").reindex(names).fillna("").astype(str)
    called: dict[str, str] = {}
    for name in labels:  # capital letters are alike to SQLite
        free = f"label_{name}" if name.lower() in TAKEN else name
        while free.lower() in {each.lower() for each in called.values()}:
            free += "_"
        called[name] = free
    whole = {
        name: labels[name].str.fullmatch(r"|0|-?[1-9]\d{0,17}").all() and (labels[name] != "").any()
        for name in labels
    }
    columns = "".join(
        f", {_quoted(called[name])} {'INTEGER' if whole[name] else 'TEXT'}" for name in labels
    )
    new.execute(f"CREATE TABLE images (image TEXT NOT NULL{columns})")
    cells = [
        [int(cell) if cell and whole[name] else cell or None for cell in labels[name]]
        for name in labels
    ]
    new.executemany(f"INSERT INTO images VALUES (?{', ?' * len(cells)})", zip(names, *cells))
    new.execute("CREATE TABLE about (known_as TEXT, classes TEXT)")
    new.execute(
        "INSERT INTO about VALUES (?, ?)",
        (known_as, json.dumps([called[name] for name in classes])),
    )
    new.commit()
    return new
