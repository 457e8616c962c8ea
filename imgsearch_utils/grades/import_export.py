"""Grades from and to files: importing pairs and naming what is odd about them, exporting the
current grades, counts.
"""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgsearch_utils.encoders.embed_collection import read_vectors
from imgsearch_utils.grades.agreement import agreement
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.pairs import COLUMNS, Merged, canonical, merge, write_pairs
from imgsearch_utils.grades.usable_grades import usable
from imgsearch_utils.images.collection import Collection, open_collection
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.image_split import group_near_duplicates
from imgsearch_utils.images.near_duplicates import SAME_PICTURE
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.workspace import Run, open_atomic
from imgsearch_utils.workspace.account import Account
from imgsearch_utils.workspace.tables import write_table

IMPORTER = "import"
IMPORT_ACCOUNT = "import_account.json"  # beside the journal


def import_report(
    pairs: pd.DataFrame,
    images: Images,
    duplicates: pd.DataFrame | None = None,
    merged: Merged | None = None,
) -> tuple[dict[str, int], pd.DataFrame]:
    """What an importer must name: counts, and one row for each thing found.

    Parameters
    ----------
    pairs : any number of rows a pair; columns `file` and `row` (of `read_pair_files`) are quoted
    images : those of the study; pairs across their classes are automatic zeros
    duplicates : image1, image2 of pictures that are the same
    merged : the pairs as ``merge`` gives them, where that is known

    Returns
    -------
    counts : rows, pairs, recurring, conflicts, unknown (images), self_pairs, not_asked,
        automatic_zeros (grade 0 across classes), people_zeros (grade 0 within a class, or where
        there are none), graded_across (grade above 0 across classes), duplicates_within,
        duplicates_across
    problems : problem, image1, image2, similarity, file, row, detail
    """
    pairs, merged = canonical(pairs), merged or merge(pairs)
    twins = canonical(duplicates if duplicates is not None else pairs[:0])[["image1", "image2"]]
    twins = images.both_of(twins)
    classes = images.classes

    def across(table):
        one, two = (table[name].astype(object).map(classes) for name in ("image1", "image2"))
        return (one.notna() & two.notna() & (one != two)).to_numpy(bool)

    strangers = (set(pairs.image1) | set(pairs.image2)) - set(images.names)
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
    odd_rows = [
        again,
        pairs[unknown].assign(problem="unknown", detail=_unknown(pairs[unknown], images)),
        pairs[alone].assign(problem="self_pair", detail="an image beside itself"),
        pairs[graded_across].assign(
            problem="graded_across", detail="a grade above 0 across classes"
        ),
        twins[~across(twins)].assign(
            problem="duplicates_within", detail="the same picture twice in one class"
        ),
        twins[across(twins)].assign(
            problem="duplicates_across", detail="the same picture in two classes"
        ),
    ]
    place = [name for name in ("file", "row") if name in pairs]
    problems = pd.concat(odd_rows, ignore_index=True)[["problem", *COLUMNS, *place, "detail"]]
    return {name: int(count) for name, count in counts.items()}, problems.astype(
        {name: "Int64" for name in place if name == "row"}
    )


def _unknown(pairs: pd.DataFrame, images: Images) -> list[str]:
    """What to say of pairs with an unknown image; a name that looks like a known one may be written
    otherwise.
    """

    def plain(name):
        return unicodedata.normalize("NFC", name).strip().casefold()

    known, alike = (
        set(images.names),
        {plain(name): name for name in images.names} if len(pairs) else {},
    )
    strangers = [one if one not in known else two for one, two in zip(pairs.image1, pairs.image2)]
    return [
        "an image that the study does not have"
        + (
            f"; it has {alike[plain(name)]!r}, which is written otherwise (case, blanks or accents)"
            if plain(name) in alike
            else ""
        )
        for name in strangers
    ]


def images_of_files(run: Run, collection: Collection) -> Images:
    """A collection's images with the vectors that are there: none of them before the pictures are
    encoded.
    """
    if collection.vectors:
        embeddings = read_vectors(collection)
    elif (run.vectors / "encoder" / "config.json").is_file():
        embeddings = Embeddings.load(run.vectors / "encoder")
    else:
        embeddings = Embeddings([], np.empty((0, 1), np.float32), {})
    return Images(collection.images, embeddings)


def import_labels(run: Run, pairs: pd.DataFrame) -> tuple[dict[str, int], pd.DataFrame]:
    """Write the pairs of CSV files (of ``read_pair_files``) to the run's journal, and name what is
    odd about them.

    A pair that recurs is written once, with the lower median of its grades; grade 0 across classes
    is automatic. Pairs of unknown images are left out. What the journal already holds of the
    importer is not written again.

    Returns
    -------
    counts and problems as in ``import_report``, with `imported`: how many grades are new

    Raises
    ------
    ValueError
        for a published run.
    """
    journal = Journal(run.journal)
    journal.check_writable()
    images = images_of_files(run, open_collection(run))
    images_with_vectors = {*pairs.image1, *pairs.image2} & {*images.embeddings.names}
    _, twins = group_near_duplicates(images.among(images_with_vectors), SAME_PICTURE)
    merged = merge(pairs)
    counts, problems = import_report(pairs, images, twins, merged)
    graded = usable(merged.pairs.dropna(subset="similarity"), images)
    by_class = ~images.same_class(graded) & (graded.similarity == 0)
    graded["by"] = pd.Categorical.from_codes(by_class.astype(np.int8), [IMPORTER, AUTOMATIC])
    with journal.alone():  # another import may run at once
        already_graded = {
            (*pair, by, act.grade)
            for pair, acts in journal.votes().items()
            for by, act in acts.items()
        }
        new = [
            row not in already_graded
            for row in zip(graded.image1, graded.image2, graded.by, graded.similarity)
        ]
        graded = graded[np.array(new, bool)]
        counts["imported"] = sum(
            journal.append_many(graded[graded.by == by], by, by) for by in (AUTOMATIC, IMPORTER)
        )
        with open_atomic(run.labels / "import_problems.csv") as file:
            write_table(problems, file)
        _account(pairs, images, graded, counts).write(run.labels / IMPORT_ACCOUNT)
    return counts, problems


def _account(
    pairs: pd.DataFrame, images: Images, new: pd.DataFrame, counts: dict[str, int]
) -> Account:
    """What became of each row; of the rows of one pair the first that is graded stands for all."""
    rows, known = canonical(pairs).reset_index(drop=True), {*images.names}
    stranger = ~(rows.image1.isin(known) & rows.image2.isin(known))
    alone = rows.image1.astype(object) == rows.image2.astype(object)
    ungraded = rows.similarity.isna()
    graded = rows[~(stranger | alone | ungraded)]
    first = graded[~graded.duplicated(["image1", "image2"])]
    reasons = {
        "of an image that the study does not have": rows[stranger],
        "of an image beside itself": rows[alone & ~stranger],
        "without a grade": rows[ungraded & ~alone & ~stranger],
        "of a pair that another row grades too; the lower median of its grades counts": graded[
            ~graded.index.isin(first.index)
        ],
    }
    left_out = {
        reason: (len(of), f"{of.file.iloc[0]}: row {of.row.iloc[0]}")
        for reason, of in reasons.items()
        if len(of)
    }
    if len(first) > len(new):
        left_out["that the journal held already"] = len(first) - len(new), ""
    notes = []
    if counts["conflicts"]:
        notes.append(f"{counts['conflicts']:,} pairs are graded differently by several rows")
    if zeros := int((new.by == AUTOMATIC).sum()):
        notes.append(f"{zeros:,} grades 0 across classes count as automatic, nobody's")
    grades = new.similarity.value_counts().sort_index()
    by_grade = {f"{grade:g}": int(n) for grade, n in grades.items()}
    return Account("rows", len(rows), len(new), left_out, {"grade": by_grade}, tuple(notes))


def export_labels(run: Run, file: Path) -> int:
    """Write the run's current grades as a pairs CSV that can be imported again; return how many."""
    labels = Journal(run.journal).labels()
    if labels.empty:
        raise ValueError(f"run {run.name} has no grades to export")
    write_pairs(labels, file)
    return len(labels)


def export_votes(run: Run, file: Path) -> int:
    """Write the votes of the search page, which are no grades, as a CSV; return how many.

    Its columns: image1, image2, vote ("up" or "down"), annotator, time (UTC), round (the first that
    may learn from it)"""
    rows = [
        (*pair, act.act.removeprefix("vote_"), annotator, act.time, act.round)
        for pair, by_annotator in Journal(run.journal).search_votes().items()
        for annotator, act in by_annotator.items()
    ]
    if not rows:
        raise ValueError(f"run {run.name} has no votes to export")
    write_table(
        pd.DataFrame(rows, columns=["image1", "image2", "vote", "annotator", "time", "round"]), file
    )
    return len(rows)


def summarise_labels(run: Run) -> dict[str, Any]:
    """Count the run's current grades: `pairs`, `automatic`, `grades`, `annotators`, and `alpha`
    where two agree or not.

    votes : on the search page; they are no grades, and are counted nowhere else
    comparisons : answers to "which is more like the first?"; nor are they
    alpha : Krippendorff's, ordinal; None where no pair was graded by two people
    """
    journal = Journal(run.journal)
    labels, found = journal.labels(), agreement(journal)
    people = labels[labels.source != AUTOMATIC]
    annotators = pd.Series(
        [act.annotator for act in journal.standing() if act.source != AUTOMATIC], dtype=str
    )
    return {
        "pairs": len(labels),
        "automatic": len(labels) - len(people),
        "grades": {
            int(grade): int(count)
            for grade, count in people.similarity.value_counts().sort_index().items()
        },
        "annotators": {name: int(count) for name, count in annotators.value_counts().items()},
        "votes": sum(map(len, journal.search_votes().values())),
        "comparisons": len(journal.comparisons()),
        "alpha": None if pd.isna(found.alpha) else round(found.alpha, 3),
        "to_adjudicate": len(found.queue),
    }
