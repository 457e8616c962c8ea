"""Comparisons from and to files: "closer is more like the query than farther", a row each."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.grades.import_export import IMPORTER, images_of_files
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import group_near_duplicates
from imgsearch_utils.images.near_duplicates import SAME_PICTURE
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.study import listed, nearest
from imgsearch_utils.workspace import Run, open_atomic
from imgsearch_utils.workspace.account import Account
from imgsearch_utils.workspace.tables import read_user_csv, user_csv_parts, write_table

COMPARISON_ACCOUNT = "comparison_account.json"  # beside the journal
TRIPLET = ["query", "closer", "farther"]


def holds_comparisons(file: Path) -> bool:
    """Whether a file's header speaks of comparisons; a pipe is not looked into, since it can be
    read once only.
    """
    if not file.is_file():
        return False
    return bool({"closer", "farther"} & {*next(user_csv_parts(file, rows=1))})


def read_comparisons(files: Iterable[str | Path]) -> pd.DataFrame:
    """Read CSV files with the columns query, closer and farther into one table; further columns are
    left out.

    Returns
    -------
    query, closer, farther, file, row (the header is row 1)

    Raises
    ------
    ValueError
        one line with the file, and the row or column that is wrong.
    """
    tables = []
    for file in map(Path, files):
        table = read_user_csv(file)
        for name in TRIPLET:
            if name not in table:
                raise ValueError(
                    f"{file}: expected a column {name}, got {listed(list(table))}. "
                    f"{nearest(name, list(table))}"
                )
            for number in table.index[table[name] == ""]:
                raise ValueError(
                    f"{file}: row {number}: {name} is empty; write the image's file name"
                )
        tables.append(table[TRIPLET].assign(file=file.name, row=table.index))
    return pd.concat(tables, ignore_index=True)


class Imported(NamedTuple):
    """What an import did.

    counts : rows, and what became of them: imported, known (the journal held them already), unknown
        (an image that the study does not have), same_picture (two of the three images are one
        picture); these four add up to the rows. Of the rows that count: repeated (another row said
        the same) and contradictory (of questions that rows answer both ways), each kept as a voice
    problems : problem, query, closer, farther, file, row, detail
    """

    counts: dict[str, int]
    problems: pd.DataFrame


def import_comparisons(run: Run, triplets: pd.DataFrame) -> Imported:
    """Write the rows of ``read_comparisons`` to the run's journal, and account for each.

    Each row is a voice: rows that contradict each other, or that say the same, are kept beside each
    other as answers of several people ("import", "import 2", ...). A row that the journal holds as
    an importer's answer is not written again.

    Raises
    ------
    ValueError
        for a published run.
    """
    journal = Journal(run.journal)
    journal.check_writable()
    images = images_of_files(run, open_collection(run))
    reason, detail = _left_out(triplets, images)
    good = triplets[reason == ""]
    with journal.alone():  # another import may run at once
        new = _new_voices(good, journal)
        journal.compare_many(new, IMPORTER) if len(new) else journal.begin()
        both = _answered_both_ways(good)
        odd = [
            triplets[reason != ""].assign(
                problem=reason[reason != ""], detail=detail[reason != ""]
            ),
            good[good.duplicated(TRIPLET)].assign(
                problem="repeated", detail="another row says the same; both count"
            ),
            good[both].assign(
                problem="contradictory", detail="another row says the opposite; both count"
            ),
        ]
        columns = ["problem", *TRIPLET, "file", "row", "detail"]
        problems = pd.concat(odd, ignore_index=True)[columns]
        with open_atomic(run.labels / "comparison_problems.csv") as file:
            write_table(problems, file)
    counts = {
        "rows": len(triplets),
        "imported": len(new),
        "known": len(good) - len(new),
        "unknown": (reason == "unknown").sum(),
        "same_picture": (reason == "same_picture").sum(),
        "repeated": good.duplicated(TRIPLET).sum(),
        "contradictory": both.sum(),
    }
    counts = {name: int(count) for name, count in counts.items()}
    _account(counts, problems).write(run.labels / COMPARISON_ACCOUNT)
    return Imported(counts, problems)


def _account(counts: dict[str, int], problems: pd.DataFrame) -> Account:
    reasons = {
        "unknown": "of an image that the study does not have",
        "same_picture": "of which two images are one picture",
        "known": "that the journal held already",
    }
    first = {
        problem: f"{rows.file.iloc[0]}: row {rows.row.iloc[0]}"
        for problem, rows in problems.groupby("problem")
    }
    left_out = {
        reason: (counts[name], first.get(name, ""))
        for name, reason in reasons.items()
        if counts[name]
    }
    return Account("rows", counts["rows"], counts["imported"], left_out)


def _left_out(triplets: pd.DataFrame, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Why a row teaches nothing, and a sentence on it, both (n,); empty where it may teach."""
    named = {*triplets[TRIPLET].to_numpy(object).ravel()}
    known = {*images.names}
    grouped, _ = group_near_duplicates(
        images.among(named & {*images.embeddings.names}), SAME_PICTURE
    )
    group = {name: name for name in named} | dict(zip(grouped.table.image, grouped.table.group))
    reasons, details = [], []
    for row in triplets[TRIPLET].itertuples(index=False, name=None):
        stranger = next((name for name in row if name not in known), None)
        one_picture = len({group[name] for name in row}) < 3
        if stranger is not None:
            reasons.append("unknown")
            details.append(f"{stranger}: an image that the study does not have")
        else:
            reasons.append("same_picture" if one_picture else "")
            details.append("two of the three are the same picture" if one_picture else "")
    return np.array(reasons, object), np.array(details, object)


def _answered_both_ways(triplets: pd.DataFrame) -> np.ndarray:
    """Which rows (n,) another one contradicts."""
    rows = [*triplets[TRIPLET].itertuples(index=False, name=None)]
    said = {*rows}
    return np.array([(query, two, one) in said for query, one, two in rows], bool)


def _new_voices(triplets: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """The rows that the journal does not hold as an importer's, with the name of each as
    `annotator`, which has not answered the same question yet.
    """
    there = journal.comparisons(neither=True)
    imported = there[(there.source == IMPORTER) & ~there.neither]
    held = Counter(imported[TRIPLET].itertuples(index=False, name=None))
    # whoever answered: a person may be called so too
    taken = {
        (query, *key(one, two), annotator)
        for query, one, two, annotator in zip(*there[[*TRIPLET, "annotator"]].to_numpy(object).T)
    }
    rows, voices = [], []
    for place, row in enumerate(triplets[TRIPLET].itertuples(index=False, name=None)):
        if held[row]:
            held[row] -= 1
            continue
        question, voice = (row[0], *key(*row[1:])), 1
        while (*question, _voice(voice)) in taken:
            voice += 1
        taken.add((*question, _voice(voice)))
        rows.append(place)
        voices.append(_voice(voice))
    return triplets.iloc[rows].assign(annotator=np.array(voices, object))


def _voice(number: int) -> str:
    return IMPORTER if number == 1 else f"{IMPORTER} {number}"


def export_comparisons(run: Run, file: Path) -> tuple[int, int]:
    """Write the run's current comparisons as a CSV that can be imported again.

    Its columns: query, closer, farther, annotator, round, source, seconds, time (UTC). Answers
    "neither" say no order and stay out of it.

    Returns
    -------
    how many are written, and how many answers "neither" are not
    """
    table = Journal(run.journal).comparisons(neither=True)
    ordered = table[~table.neither].drop(columns="neither")
    if ordered.empty:
        raise ValueError(f"run {run.name} has no comparisons to export")
    write_table(ordered, file)
    return len(ordered), int(table.neither.sum())


def teaching_triplets(run: Run, images: Images, up_to_round: int | None = None) -> pd.DataFrame:
    """The current comparisons, without "neither", whose three images are among these.

    images : with vectors; those that may teach, so that no comparison of a dev or test image does
    """
    table = Journal(run.journal).comparisons(up_to_round)
    names = images.names
    return table[table[TRIPLET].isin(names).all(axis=1)].reset_index(drop=True)
