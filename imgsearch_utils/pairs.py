"""Graded pairs of images: reading, checking, merging, and splits whose sides share no image.

A pairs table has `image1`, `image2`, `similarity` (0..3; NaN = not asked yet) and any further columns.
A pair is unordered; the canonical order is image1 < image2.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.study import nearest

COLUMNS = ["image1", "image2", "similarity"]
GRADES = (0, 1, 2, 3)
SIDES = ("train", "dev", "test")


def _records(path: Path) -> list[list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got byte {error.start}; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as CSV: {error}") from None


def _grade(text: str, place: str) -> float:
    try:
        grade = float(text.replace(",", ".")) if text.strip() else np.nan
    except ValueError:
        grade = -1.0
    if np.isnan(grade) != (not text.strip()) or not (np.isnan(grade) or grade in GRADES):
        raise ValueError(f"{place}: similarity must be 0, 1, 2, 3 or empty, got {text!r}; correct it and read again")
    return grade


def _bare(path: str) -> str:
    path = path.strip()
    return path[1:-1] if path.startswith("(") and path.endswith(")") else path


def read_pairs(
    path: str | Path, first: str = "image1", second: str = "image2", need_grades: bool = True
) -> pd.DataFrame:
    """Read a CSV of graded pairs; commas, semicolons or tabs, any line ends, with or without a BOM.

    Paths in `image1_path` and `image2_path` lose their parentheses, and name the image where `image1`,
    `image2` are absent. Further columns are kept, as numbers where all their values are numbers.

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


def _read(path: Path, first: str = "image1", second: str = "image2", need_grades: bool = True) -> pd.DataFrame:
    header, *rows = _records(path) or [[]]
    header = [name.strip() for name in header]
    rows = {number: row for number, row in enumerate(rows, start=2) if any(row)}
    for number, row in rows.items():
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number}: expected {len(header)} fields, got {len(row)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: a column stands twice in the header {', '.join(header)}; rename one")
    table = pd.DataFrame(list(rows.values()), columns=header, dtype=str, index=list(rows))
    for name, source in (("image1", first), ("image2", second)):
        where = f"{name}_path"
        if where in table:
            table[where] = table[where].map(_bare)
        if source in table:
            table = table.rename(columns={source: name})
        elif where in table:
            table[name] = table[where].map(lambda value: value.replace("\\", "/").rsplit("/", 1)[-1])
    if not need_grades and "similarity" not in table:
        table["similarity"] = ""
    for name in COLUMNS:
        if name not in table:
            raise ValueError(f"{path}: expected a column {name}, got {', '.join(header)}. {nearest(name, header)}")
    for name in ("image1", "image2"):
        for number in table.index[table[name] == ""]:
            raise ValueError(f"{path}: row {number}: {name} is empty; write the image's file name")
    grades = [_grade(text, f"{path}: row {number}") for number, text in table.similarity.items()]
    table["similarity"] = np.array(grades, float)
    extras = [name for name in table if name not in COLUMNS]
    for name in extras:
        numbers = pd.to_numeric(table[name].replace("", np.nan), errors="coerce")
        if numbers.any() and (numbers.notna() == (table[name] != "")).all():
            table[name] = numbers
    return table[COLUMNS + extras]


def write_pairs(pairs: pd.DataFrame, path: str | Path) -> None:
    """Write pairs so that `read_pairs` gives the same table again."""
    returns = pairs.image1.str.contains("\r") | pairs.image2.str.contains("\r")  # csv quotes them only when told to
    quoting = csv.QUOTE_NONNUMERIC if returns.any() else csv.QUOTE_MINIMAL
    pairs.to_csv(path, index=False, lineterminator="\n", encoding="utf-8", quoting=quoting)


def key(image1: str, image2: str) -> tuple[str, str]:
    """The unordered pair as a tuple in canonical order."""
    return (image1, image2) if image1 <= image2 else (image2, image1)


def canonical(pairs: pd.DataFrame) -> pd.DataFrame:
    """A copy in canonical order, image1 <= image2; paths change places with their images."""
    pairs = pairs.copy()
    turned = (pairs.image1.astype(object) > pairs.image2.astype(object)).to_numpy(bool)
    for one, two in (("image1", "image2"), ("image1_path", "image2_path")):
        if one in pairs and two in pairs:
            left, right = pairs[one].to_numpy(object), pairs[two].to_numpy(object)
            pairs[one], pairs[two] = np.where(turned, right, left), np.where(turned, left, right)
    return pairs


def lower_median(grades: Iterable[float]) -> float:
    """The median grade, of two middle grades the lower; NaN when there is none: the rule for conflicts."""
    grades = sorted(grade for grade in grades if not np.isnan(grade))
    return grades[(len(grades) - 1) // 2] if grades else np.nan


class Merged(NamedTuple):
    """pairs: one row a pair; recurring: image1, image2, rows, grades ("1 2"); conflicts: those whose grades differ."""

    pairs: pd.DataFrame
    recurring: pd.DataFrame
    conflicts: pd.DataFrame


def merge(pairs: pd.DataFrame) -> Merged:
    """One row a pair, in order of first appearance, and what recurred.

    Grades that differ become their lower median, so that "similar" (3) needs more than half of the voices.
    Other columns are those of the pair's first row.
    """
    pairs = canonical(pairs)
    merged = pairs.drop_duplicates(["image1", "image2"]).reset_index(drop=True)
    recurring, chosen = [], {}
    repeated = pairs[pairs.duplicated(["image1", "image2"], keep=False)]
    for (one, two), grades in repeated.groupby(["image1", "image2"], sort=False).similarity:
        chosen[one, two] = lower_median(grades)
        recurring.append((one, two, len(grades), " ".join(f"{grade:g}" for grade in grades.dropna())))
    keys = zip(merged.image1, merged.image2)
    merged["similarity"] = [chosen.get(pair, grade) for pair, grade in zip(keys, merged.similarity)]
    recurring = pd.DataFrame(recurring, columns=["image1", "image2", "rows", "grades"])
    differ = np.array([len(set(grades.split())) > 1 for grades in recurring.grades], bool)
    return Merged(merged, recurring, recurring[differ].reset_index(drop=True))


def usable(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """The pairs of two different known images."""
    known = pairs.image1.isin(images.image) & pairs.image2.isin(images.image)
    return pairs[known & (pairs.image1 != pairs.image2)].reset_index(drop=True)


def import_report(
    pairs: pd.DataFrame, images: pd.DataFrame, duplicates: pd.DataFrame | None = None, class_column: str | None = None
) -> tuple[dict[str, int], pd.DataFrame]:
    """What an importer must name: counts, and one row for each thing found.

    Parameters
    ----------
    pairs : any number of rows a pair; columns `file` and `row` (of `read_pair_files`) are quoted
    images : column `image` and, for the counts by class, `class_column`
    duplicates : image1, image2 of pictures that are the same
    class_column : pairs across its classes are automatic zeros

    Returns
    -------
    counts : rows, pairs, recurring, conflicts, unknown (images), self_pairs, not_asked, automatic_zeros (grade 0
        across classes), people_zeros (grade 0 within a class, or where there are none), graded_across (grade
        above 0 across classes), duplicates_within, duplicates_across
    problems : problem, image1, image2, similarity, file, row, detail
    """
    pairs, merged = canonical(pairs), merge(pairs)
    twins = canonical(duplicates if duplicates is not None else pairs[:0])[["image1", "image2"]]
    twins = twins[twins.image1.isin(images.image) & twins.image2.isin(images.image)]
    classes = dict(zip(images.image, images[class_column])) if class_column else {}

    def across(table):
        one, two = table.image1.map(classes), table.image2.map(classes)
        return (one.notna() & two.notna() & (one != two)).to_numpy(bool)

    strangers = (set(pairs.image1) | set(pairs.image2)) - set(images.image)
    unknown = pairs.image1.isin(strangers) | pairs.image2.isin(strangers)
    alone, zero, differ = pairs.image1 == pairs.image2, pairs.similarity == 0, across(pairs)
    graded_across = differ & (pairs.similarity > 0)
    counts = {
        "rows": len(pairs),
        "pairs": len(merged.pairs),
        "recurring": len(merged.recurring),
        "conflicts": len(merged.conflicts),
        "unknown": len(strangers),
        "self_pairs": alone.sum(),
        "not_asked": pairs.similarity.isna().sum(),
        "automatic_zeros": (zero & differ).sum(),
        "people_zeros": (zero & ~differ).sum(),
        "graded_across": graded_across.sum(),
        "duplicates_within": (~across(twins)).sum(),
        "duplicates_across": across(twins).sum(),
    }
    clash = pd.MultiIndex.from_frame(merged.conflicts[["image1", "image2"]])
    again = pairs.merge(merged.recurring, how="inner", on=["image1", "image2"])
    again["detail"] = "grades " + again.grades
    clashes = pd.MultiIndex.from_frame(again[["image1", "image2"]]).isin(clash)
    again["problem"] = np.where(clashes, "conflict", "recurring")
    found = [
        again,
        pairs[unknown].assign(problem="unknown", detail="an image that the study does not have"),
        pairs[alone].assign(problem="self_pair", detail="an image beside itself"),
        pairs[graded_across].assign(problem="graded_across", detail="a grade above 0 across classes"),
        twins[~across(twins)].assign(problem="duplicates_within", detail="the same picture twice in one class"),
        twins[across(twins)].assign(problem="duplicates_across", detail="the same picture in two classes"),
    ]
    place = [name for name in ("file", "row") if name in pairs]
    problems = pd.concat(found, ignore_index=True)[["problem", *COLUMNS, *place, "detail"]]
    return {name: int(count) for name, count in counts.items()}, problems.astype(
        {name: "Int64" for name in place if name == "row"}
    )


def split_by_group(
    images: pd.DataFrame, dev_share: float, test_share: float, seed: int, class_column: str | None = None
) -> pd.DataFrame:
    """Put whole groups of near-duplicates on the train, dev or test side, each class in the same shares.

    Within a class (that of most of a group's images), groups come in random order, the largest first, and each
    goes to the side that lacks most images; what a class leaves unbalanced is carried to the next.

    Parameters
    ----------
    images : `image`, `group` and, for stratifying, `class_column`
    dev_share, test_share : of the images; the rest is train; a side whose share is 0 stays empty

    Returns
    -------
    a copy with the column `side`: "train", "dev" or "test"

    Raises
    ------
    ValueError
        when a side would hold fewer than the two images that make a pair.
    """
    rng = np.random.default_rng(seed)
    stratum = images[class_column] if class_column else pd.Series("", index=images.index)
    groups = pd.DataFrame({"stratum": stratum.astype(str), "group": images.group, "image": images.image})
    groups = groups.groupby("group").agg(
        stratum=("stratum", lambda classes: classes.mode()[0]), first=("image", "min"), n=("image", "size")
    )
    groups = groups.sort_values("first").iloc[rng.permutation(len(groups))]
    groups = groups.sort_values(["stratum", "n"], ascending=[True, False], kind="stable")
    share = np.array([1 - dev_share - test_share, dev_share, test_share])
    lacking, sides = np.zeros(3), {}
    for _, members in groups.groupby("stratum"):
        lacking += share * members.n.sum()
        for group, size in members.n.items():
            side = int(lacking.argmax())
            lacking[side] -= size
            sides[group] = SIDES[side]
    split = images.assign(side=images.group.map(sides))
    for side in np.take(SIDES, np.flatnonzero(share)):
        if (count := int((split.side == side).sum())) < 2:
            raise ValueError(
                f"expected at least 2 images on each of train, dev and test, got {count} on {side}: "
                f"{len(images)} images in {len(groups)} groups of near-duplicates; add images or raise the {side} share"
            )
    return split


def check_no_leak(train: pd.DataFrame, test: pd.DataFrame, images: pd.DataFrame) -> None:
    """Refuse two pair tables that share an image, or two images of one `group`.

    Raises
    ------
    ValueError
        naming up to five shared images, or the groups and their images on both sides.
    """
    one, two = (set(table.image1) | set(table.image2) for table in (train, test))
    if one & two:
        raise ValueError(f"leak: {len(one & two)} image(s) stand on both sides: {', '.join(sorted(one & two)[:5])}")
    group = dict(zip(images.image, images.group))
    shared = sorted({group[name] for name in one if name in group} & {group[name] for name in two if name in group})
    if shared:
        names = ", ".join(sorted(name for name in one | two if group.get(name) == shared[0]))
        raise ValueError(f"leak: {len(shared)} group(s) of near-duplicates on both sides, e.g. {shared[0]}: {names}")
