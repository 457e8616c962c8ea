"""Graded pairs of images: reading, checking, merging.

A pairs table has `image1`, `image2`, `similarity` (0..3; NaN = not asked yet) and any further
columns. A pair is unordered; the canonical order is image1 < image2."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.study import listed, nearest
from imgsearch_utils.workspace.tables import (
    numbers_where_all_are,
    read_user_csv,
    user_csv_parts,
    write_table,
)

COLUMNS = ["image1", "image2", "similarity"]
GRADES = (0, 1, 2, 3)
LIST = 12  # results of one query that are asked together


def list_numbers(pairs: pd.DataFrame) -> np.ndarray:
    """The number of the list that each asked pair (n,) belongs to, from 0; -1 for a pair by itself.

    pairs : rows of the strategy "lists" that stand together and have one `query` are a list
    """
    if "query" not in pairs:  # of an older version
        return np.full(len(pairs), -1)
    query = pairs["query"].fillna("").where(pairs.strategy == "lists", "")
    begins = (query != query.shift()) & (query != "")
    return np.where(query != "", begins.cumsum() - 1, -1)


# 3 and 3.0 and 3,0; 1,000 could be a thousand
_GRADE = re.compile(r"([0-3])(?:\.0*|,0{0,2})?", re.ASCII)


def _grade(text: str, place: str) -> float:
    if not text.strip():
        return np.nan
    if not (match := _GRADE.fullmatch(text.strip())):
        raise ValueError(
            f"{place}: similarity must be 0, 1, 2, 3 or empty, got {text[:40]!r}; correct it and "
            "read "
            "again"
        )
    return float(match[1])


def _bare(path: str) -> str:
    path = path.strip()
    return path[1:-1] if path.startswith("(") and path.endswith(")") else path


def read_pairs(
    path: str | Path, first: str = "image1", second: str = "image2", need_grades: bool = True
) -> pd.DataFrame:
    """Read a CSV of graded pairs; commas, semicolons or tabs, any line ends, with or without a BOM.

    Paths in `image1_path` and `image2_path` lose their parentheses, and name the image where
    `image1`, `image2` are absent. Further columns are kept, as numbers where all their values are
    numbers.

    Parameters
    ----------
    first, second : the columns that name the images, e.g. ``query_image`` and ``retrieved_image``
    need_grades : without it, a file may lack the column similarity; its pairs are then not graded

    Returns
    -------
    pairs with image1, image2, similarity first, in the file's order

    Raises
    ------
    ValueError
        one line with file, row (the header is row 1), what was expected and what was got.
    """
    return _read(Path(path), first, second, need_grades).reset_index(drop=True)


def read_pair_files(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read several files into one table; columns `file` and `row` say where each pair stood."""
    tables = [_read(Path(path)).assign(file=Path(path).name) for path in paths]
    return pd.concat([table.assign(row=table.index) for table in tables], ignore_index=True)


def read_grades(
    paths: Iterable[str | Path], watch: Callable[[int, int], None] = lambda *_: None
) -> pd.DataFrame:
    """``read_pair_files`` without further columns: of millions of rows, each name stands in memory
    once.

    watch : as of ``tables.user_csv_parts``, of each file
    """
    images: dict[str, int] = {}
    files: dict[str, int] = {}
    parts = []
    for path in map(Path, paths):
        file = files.setdefault(path.name, len(files))
        for part in user_csv_parts(path, watch=watch):
            table = _pairs(part, path)
            parts.append(
                pd.DataFrame(
                    {
                        **{name: _numbered(table[name], images) for name in ("image1", "image2")},
                        "similarity": table.similarity.to_numpy(),
                        "file": np.full(len(table), file, np.int32),
                        "row": table.index.to_numpy(np.int32),
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    for name, categories in (("image1", images), ("image2", images), ("file", files)):
        table[name] = pd.Categorical.from_codes(
            table[name], pd.Index(list(categories), dtype=object)
        )
    return table


def _numbered(names: Iterable[str], known: dict[str, int]) -> np.ndarray:
    """The numbers of names, of which new ones get the next."""
    return np.fromiter((known.setdefault(name, len(known)) for name in names), np.int32)


def pair_parts(
    path: str | Path, watch: Callable[[int, int], None] = lambda *_: None
) -> Iterator[pd.DataFrame]:
    """``read_pairs`` of a file that may be larger than memory, in parts; grades may be absent,
    other columns stay text.

    watch : as of ``tables.user_csv_parts``
    """
    return (
        _pairs(part, Path(path), need_grades=False).reset_index(drop=True)
        for part in user_csv_parts(path, watch=watch)
    )


def _read(
    path: Path, first: str = "image1", second: str = "image2", need_grades: bool = True
) -> pd.DataFrame:
    table = _pairs(read_user_csv(path), path, first, second, need_grades)
    for name in table.columns[len(COLUMNS) :]:
        table[name] = numbers_where_all_are(table[name])
    return table


def _pairs(
    table: pd.DataFrame,
    path: Path,
    first: str = "image1",
    second: str = "image2",
    need_grades: bool = True,
) -> pd.DataFrame:
    """A table as ``read_user_csv`` gave it, as pairs."""
    header = list(table)
    for name, source in (("image1", first), ("image2", second)):
        where = f"{name}_path"
        if where in table:
            table[where] = table[where].map(_bare)
        if source in table:
            table = table.rename(columns={source: name})
        elif where in table:
            table[name] = table[where].map(
                lambda value: value.replace("\\", "/").rsplit("/", 1)[-1]
            )
    if not need_grades and "similarity" not in table:
        table["similarity"] = ""
    for name in COLUMNS:
        if name not in table:
            raise ValueError(
                f"{path}: expected a column {name}, got {listed(header)}. {nearest(name, header)}"
            )
    for name in ("image1", "image2"):
        for number in table.index[table[name] == ""]:
            raise ValueError(f"{path}: row {number}: {name} is empty; write the image's file name")
    grades = [_grade(text, f"{path}: row {number}") for number, text in table.similarity.items()]
    table["similarity"] = np.array(grades, float)
    return table[COLUMNS + [name for name in table if name not in COLUMNS]]


def write_pairs(pairs: pd.DataFrame, path: str | Path) -> None:
    """Write pairs so that `read_pairs` gives the same table again."""
    write_table(pairs, path)


def key(image1: str, image2: str) -> tuple[str, str]:
    """The unordered pair as a tuple in canonical order."""
    return (image1, image2) if image1 <= image2 else (image2, image1)


def canonical(pairs: pd.DataFrame) -> pd.DataFrame:
    """A copy in canonical order, image1 <= image2; paths change places with their images."""
    pairs = pairs.copy()
    turned = pairs.image1.astype(object) > pairs.image2.astype(object)
    for one, two in (("image1", "image2"), ("image1_path", "image2_path")):
        if one in pairs and two in pairs:
            pairs[one], pairs[two] = (
                pairs[one].mask(turned, pairs[two]),
                pairs[two].mask(turned, pairs[one]),
            )
    return pairs


def lower_median(grades: Iterable[float]) -> float:
    """The median grade, of two middle grades the lower; NaN when there is none: the rule for
    conflicts.
    """
    grades = sorted(grade for grade in grades if not np.isnan(grade))
    return grades[(len(grades) - 1) // 2] if grades else np.nan


class Merged(NamedTuple):
    """pairs: one row a pair; recurring: image1, image2, rows, grades ("1 2"); conflicts: those
    whose grades differ.
    """

    pairs: pd.DataFrame
    recurring: pd.DataFrame
    conflicts: pd.DataFrame


def merge(pairs: pd.DataFrame) -> Merged:
    """One row a pair, in order of first appearance, and what recurred.

    Grades that differ become their lower median, so that "similar" (3) needs more than half of the
    voices. Other columns are those of the pair's first row."""
    pairs = canonical(pairs)
    again = pairs.duplicated(["image1", "image2"])
    merged, recurring, chosen = pairs[~again].reset_index(drop=True), [], {}
    repeated = (
        pairs[pairs.duplicated(["image1", "image2"], keep=False)] if again.any() else pairs[:0]
    )
    for (one, two), grades in repeated.groupby(
        ["image1", "image2"], sort=False, observed=True
    ).similarity:
        chosen[one, two] = lower_median(grades)
        recurring.append(
            (one, two, len(grades), " ".join(f"{grade:g}" for grade in grades.dropna()))
        )
    if chosen:
        keys = zip(merged.image1, merged.image2)
        merged["similarity"] = [
            chosen.get(pair, grade) for pair, grade in zip(keys, merged.similarity)
        ]
    recurring = pd.DataFrame(recurring, columns=["image1", "image2", "rows", "grades"])
    differ = np.array([len(set(grades.split())) > 1 for grades in recurring.grades], bool)
    return Merged(merged, recurring, recurring[differ].reset_index(drop=True))
