"""What the columns of a labels.csv are: classes, a split, numbers, dates, text."""

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from pandas.api.types import is_numeric_dtype

from imgsearch_utils.images.folder_levels import (
    BY_FOLDERS,
    NO_SPLIT,
    SPLITS,
    held_out,
    refuse_doubts,
    says_nothing,
    side_of,
    spelt_alike,
    too_many,
)
from imgsearch_utils.study import ImageSettings, listed, nearest
from imgsearch_utils.workspace.tables import numbers_where_all_are

# a column of whole numbers that is called so holds the numbers of classes
CLASSES = {"category", "category_id", "class", "class_id", "cls", "label", "label_id", "target"}
SPLIT = "split"  # the column that says which side an image stands on
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Columns(NamedTuple):
    """A table of labels, read.

    table : without its column of a split
    classes : the columns that are classes, from coarse to fine
    sides : of each row; empty where there is no split
    kinds : column -> "number", "date" or "text"
    notes : for the account
    """

    table: pd.DataFrame
    classes: list[str]
    sides: list[str]
    kinds: dict[str, str]
    notes: tuple[str, ...]


def kind_of(column: pd.Series) -> str:
    """What a column of text is: "number", "date" (2026-11-30), or "text"."""
    if is_numeric_dtype(numbers_where_all_are(column)):
        return "number"
    said = column[column != ""].unique()
    return "date" if len(said) and all(map(_is_day, said)) else "text"


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:  # 2026-02-30
        return False


def read_columns(table: pd.DataFrame, settings: ImageSettings, where: object) -> Columns:
    """Find the classes and the split among a table's columns.

    Raises
    ------
    ValueError
        for a column that is not there; and where a column may be a class or not, or a split or a
        class, and `settings` do not say
    """
    chosen = settings.class_columns
    table, sides, notes = _without_split(table, settings, where)
    names = list(table.columns[1:])
    kinds = {name: kind_of(table[name]) for name in names}
    if chosen is not None:
        for column in chosen:
            if column not in names:
                raise ValueError(f"{where}: no class column {column!r}. {nearest(column, names)}")
        return Columns(table, list(chosen), sides, kinds, tuple(notes))
    telling = [name for name in names if table[name].nunique() > 1] or names[-1:]
    if said := [name for name in names if name not in telling]:
        notes.append(f"{listed(said)}: the same everywhere, so no class")
    doubts = _doubts(table, telling, kinds)
    likely = [name for name in telling if kinds[name] == "text" and not _too_many(table[name])]
    likely = likely or telling[: len(telling) == 1]
    refuse_doubts(where, doubts, sorted(likely, key=lambda name: table[name].nunique()))
    if telling:
        notes.append(
            f"columns taken for classes, coarse to fine: {listed(telling)}; --classes chooses"
        )
    return Columns(table, telling, sides, kinds, tuple(notes))


def _without_split(
    table: pd.DataFrame, settings: ImageSettings, where: object
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A table without its column of a split, the side of each row, and notes on it."""
    wanted = settings.split
    if wanted == NO_SPLIT:
        return table, [], []
    names = list(table.columns[1:])
    if wanted not in (None, BY_FOLDERS) and wanted not in names:
        raise ValueError(f"{where}: no column {wanted!r} of a split. {nearest(wanted, names)}")
    named = wanted if wanted not in (None, BY_FOLDERS) else SPLIT
    others = [name for name in names if name != named and _all_sides(table[name])]
    if others and wanted is None and not {*others} & {*(settings.class_columns or ())}:
        raise ValueError(
            f"{where}: the column {others[0]!r} says train and another side of a split, so that it "
            f"may be a split or a class; nothing is guessed: --split {others[0]} keeps it, --split "
            "none does not (in a study's file: images.split)"
        )
    if named not in names or not (sides := splits_of(table[named], where)):
        if wanted not in (None, BY_FOLDERS):
            raise ValueError(
                f"{where}: the column {wanted!r} is no split: expected train and another of "
                f"{', '.join(SPLITS)}"
            )
        return table, [], []
    counts = pd.Series(held_out(sides)).value_counts()
    shown = ", ".join(f"{n:,} {side}" for side, n in counts.items())
    note = f"column {named!r} was taken for a split ({shown}); --split none reads it as a class"
    return table.drop(columns=named), held_out(sides), [note]


def _all_sides(column: pd.Series) -> bool:
    """Whether each value is a side's name, and train one of several."""
    sides = {side_of(value) for value in column.unique()}
    return "" not in sides and "train" in sides and len(sides) > 1


def splits_of(values: Sequence[str], where: object) -> list[str]:
    """The side that each value names; empty where they are no split: no train, or no other side.

    Raises
    ------
    ValueError
        where something else stands beside two sides, so that nobody can know what is meant.
    """
    values = list(values)
    sides = [side_of(value) for value in values]
    given_splits = {*sides} - {""}
    if "train" not in given_splits or len(given_splits) == 1:
        return []
    if not all(sides):
        odd = values[sides.index("")]
        raise ValueError(
            f"{where}: {odd!r} stands beside {' and '.join(sorted(given_splits))}; for a split "
            f"that is kept, each is one of {', '.join(SPLITS)}; for classes: --split none, or "
            "rename those"
        )
    return sides


def _too_many(column: pd.Series) -> bool:
    return too_many(column.nunique(), len(column))


def _places(column: pd.Series) -> list[str]:
    """The values that say nothing but a place or a date: any, of folders; all, of other columns."""
    values = sorted({*column} - {""})
    odd = [value for value in values if says_nothing(value)]
    enough = str(column.name).startswith("folder") or len(odd) == len(values)
    return odd if enough and not _class_numbers(column) else []


def _class_numbers(column: pd.Series) -> bool:
    """Whether a column of whole numbers is called one of classes."""
    whole = column.str.fullmatch(r"-?\d*").all()
    return bool(whole) and str(column.name).strip().lower() in CLASSES


def _doubts(table: pd.DataFrame, names: list[str], kinds: dict[str, str]) -> list[str]:
    """Why columns may be no classes, or no levels of one hierarchy in this order."""
    doubts = []
    for name in names:
        if kinds[name] != "text" and not _class_numbers(table[name]):
            doubts.append(f"the column {name!r} holds {kinds[name]}s")
        elif _too_many(table[name]):
            doubts.append(
                f"the column {name!r} has {table[name].nunique():,} values for {len(table):,} "
                "images, which is no class as a rule"
            )
        elif places := _places(table[name]):
            doubts.append(f"{name!r} names places rather than classes ({listed(places, 4)})")
        elif twins := spelt_alike(table[name].unique().tolist()):
            doubts.append(f"{twins[0]!r} and {twins[1]!r} of {name!r} are one name, spelt twice")
    for coarse, fine in zip(names, names[1:]):
        if not doubts and (table.groupby(fine)[coarse].nunique() > 1).any():
            doubts.append(
                f"images of one {fine!r} are of several {coarse!r}, so these two columns are no "
                "levels of classes from coarse to fine"
            )
    return doubts
