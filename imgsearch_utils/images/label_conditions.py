"""What is known of each image beside its vector: its labels, in an Arrow file that is read where it
lies, so that few are read and any can be found; DuckDB answers conditions.
"""

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import lazy_loader
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from imgsearch_utils.images.column_reading import kind_of
from imgsearch_utils.study import listed
from imgsearch_utils.workspace import atomic_path
from imgsearch_utils.workspace.tables import numbers_where_all_are

duckdb = lazy_loader.load("duckdb")  # a fifth of a second, for conditions alone
# a label of that name gets another
TAKEN = ("query", "rank", "score", "p_similar", "close", "rowid")
PATIENCE = 5  # seconds that a condition may take
LONGEST = 10_000  # letters of a condition
# DuckDB stops between two blocks of rows and not within a function: one that makes long texts or
# lists could fill the memory, so only what follows may stand in a condition
FUNCTIONS = """
    + - * / // % ^ ** ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
    regexp_full_match regexp_matches starts_with ends_with prefix suffix contains position strpos
    instr length strlen lower upper trim ltrim rtrim left right substring substr split_part
    array_extract nullif ifnull greatest least abs sign round floor ceil sqrt ln log exp
    year month day date_part datepart current_date
    count count_star min max sum avg median mode stddev
"""
TYPES = {"BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "DECIMAL", "VARCHAR", "DATE"}
SETTINGS = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "temp_directory": "",
    "memory_limit": "1GB",
    "lock_configuration": True,
}
_ANY = "image LIKE 'a%'"


class Metadata:
    """The labels of a database's images, row by row as its vectors; an empty cell is NULL to a
    condition.

    columns : their names, without `image`
    classes : those that are classes, from coarse to fine
    """

    def __init__(self, said: pa.Table):
        about = json.loads(said.schema.metadata[b"about"])
        self.known_as, self._kinds = about["known_as"], about["kinds"]
        self.columns, self.classes = list(self._kinds), about["classes"]
        self._said, self._turn = said.select(["rowid", "image", *self.columns]), threading.Lock()

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
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, pa.ArrowException):
            labels = feather.read_table(file, memory_map=True)
            labels.validate(full=True)
            kept = cls(labels)
            if kept.known_as == known_as:
                return kept
        made = cls.in_memory(names, *read(), known_as)
        # read-only: it is made for this one time
        with contextlib.suppress(OSError), atomic_path(file) as partial:
            feather.write_feather(made._said, partial, "uncompressed", chunksize=len(names) or 1)
        return made

    @classmethod
    def in_memory(
        cls, names: list[str], labels: pd.DataFrame, classes: Sequence[str] = (), known_as: str = ""
    ) -> "Metadata":
        """The same, kept in no file."""
        labels = labels.set_index("image").reindex(names).fillna("").astype(str)
        free = [f"label_{name}" if name.lower() in TAKEN else name for name in labels]
        columns = [
            pa.array(np.arange(len(names))),
            *(pa.array(column, pa.string()) for column in [names, *map(labels.get, labels)]),
        ]
        table = pa.table(columns, ["rowid", "image", *free])
        # capital letters are alike to DuckDB, which names twins apart
        table = table.rename_columns(duckdb.connect().from_arrow(table.slice(0, 0)).columns)
        called = dict(zip(labels, table.column_names[2:]))
        about = {
            "known_as": known_as,
            "kinds": {called[name]: _kind(labels[name]) for name in labels},
            "classes": [called[name] for name in classes],
        }
        return cls(table.replace_schema_metadata({"about": json.dumps(about)}))

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The labels (n,) of rows, by column, as text."""
        labels = self._said.take(rows)
        return {name: labels[name].to_numpy() for name in self.columns}

    def table(self) -> pd.DataFrame:
        """The labels of all images, as text."""
        return self._said.select(self.columns).to_pandas().astype(object)

    def where(self, condition: str) -> np.ndarray:
        """Rows of the images for which a condition of SQL holds, e.g. ``house_type = 'modern' AND
        year > 1990``.

        Raises
        ------
        ValueError
            for what is no condition, names a column that is not there, or takes too long.
        """
        with self._turn:
            patience = threading.Timer(PATIENCE, self._asked.interrupt)
            patience.start()
            try:
                statement = f"SELECT rowid FROM images WHERE ({_checked(condition)}\n)"
                self._refuse_functions(statement)
                self._refuse_values(condition)
                return self._asked.execute(f"{statement} ORDER BY rowid").fetchnumpy()["rowid"]
            except duckdb.InterruptException:
                failed = "it takes too long"
            except (duckdb.Error, ValueError) as error:
                failed = " ".join(str(error).partition("\n\nLINE ")[0].split())[:200]
            finally:
                patience.cancel()
                patience.join()
        raise ValueError(
            f"no condition that can be asked: {condition[:200]!r}: {failed}; write for example "
            f"{self.example() or _ANY}; the columns are {listed(['image', *self.columns])}"
        )

    def example(self) -> str:
        """A condition that holds for the first image; empty where there are no labels."""
        if not self.columns:
            return ""
        name, value = self.columns[0], self._said[self.columns[0]][0].as_py()
        quoted = name if name.isidentifier() and name.isascii() else duckdb.ColumnExpression(name)
        return f"{quoted} = {duckdb.ConstantExpression(value)}" if value else f"{quoted} IS NULL"

    def _refuse_functions(self, statement: str) -> None:
        [(parsed,)] = self._asked.execute(
            "SELECT json_serialize_sql(?::VARCHAR)", [statement]
        ).fetchall()
        [(error, functions, types)] = self._asked.execute(
            "SELECT ?->>'error_message', ?->>'$..function_name', ?->>'$..type_name'", [parsed] * 3
        ).fetchall()
        if error:
            raise ValueError(error)
        if refused := sorted({*functions} - {*FUNCTIONS.split()} | {*types} - TYPES):
            raise ValueError(f"{listed(refused)} may not stand in it")

    def _refuse_values(self, condition: str) -> None:
        """A number or a text would be taken for true, or for what it cannot be."""
        described = self._asked.execute(f"DESCRIBE SELECT ({condition}\n) FROM images").fetchall()
        kinds = {kind for _, kind, *_ in described}
        if others := sorted(kinds - {"BOOLEAN"}):
            raise ValueError(f"it is {listed(others)}, which is neither true nor false")

    @functools.cached_property
    def _asked(self) -> "duckdb.DuckDBPyConnection":
        """A connection that sees the labels alone, numbers as numbers, and reads no file."""
        connection = duckdb.connect(config=SETTINGS)
        connection.register("said", self._said)
        quoted = {duckdb.ColumnExpression(name): kind for name, kind in self._kinds.items()}
        columns = [
            f", CAST(nullif({name}, '') AS {kind}) AS {name}" for name, kind in quoted.items()
        ]
        connection.execute(
            f"CREATE TEMP VIEW images AS SELECT rowid, image{''.join(columns)} FROM said"
        )
        return connection


def _checked(condition: str) -> str:
    """The condition where it is one expression and nothing after it."""
    if len(condition) > LONGEST:
        raise ValueError(f"{len(condition):,} letters, at most {LONGEST:,}")
    condition.encode()  # a lone surrogate is a ValueError
    duckdb.SQLExpression(condition)
    return condition


def _kind(column: pd.Series) -> str:
    """What a column of text is to DuckDB: a whole number, a number, a date, or text."""
    kind = kind_of(column)
    if kind != "number":
        return "DATE" if kind == "date" else "VARCHAR"
    return "BIGINT" if (numbers_where_all_are(column).dropna() % 1 == 0).all() else "DOUBLE"
