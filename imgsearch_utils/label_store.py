"""A study's label store from outside: importing pair files, exporting the current grades, summing up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from imgsearch_utils.agreement import agreement
from imgsearch_utils.embeddings import Embeddings, read_vectors
from imgsearch_utils.images import SAME_PICTURE, Collection, near_duplicate_groups, open_collection
from imgsearch_utils.journal import AUTOMATIC, Journal
from imgsearch_utils.pairs import import_report, merge, read_pair_files, usable, write_pairs
from imgsearch_utils.workspace import Run

IMPORTER = "import"


def same_pictures(run: Run, collection: Collection) -> pd.DataFrame:
    """Pairs `image1`, `image2` of images that are one picture, by their vectors; none while there are no vectors."""
    if collection.vectors:
        embeddings = read_vectors(collection)
    elif (run.vectors / "encoder").is_dir():
        embeddings = Embeddings.load(run.vectors / "encoder")
    else:
        return pd.DataFrame(columns=["image1", "image2"], dtype=str)
    names = pd.Series(embeddings.names)
    _, twins = near_duplicate_groups(embeddings.vectors, SAME_PICTURE)
    return pd.DataFrame({"image1": names[twins[:, 0]].to_numpy(), "image2": names[twins[:, 1]].to_numpy()})


def import_labels(run: Run, files: Sequence[Path]) -> tuple[dict[str, int], pd.DataFrame]:
    """Write the pairs of CSV files to the run's journal, and name everything odd about them.

    A pair that recurs is written once, with the lower median of its grades; grade 0 across classes is automatic.
    Pairs of unknown images are left out. What the journal already holds of the importer is not written again.

    Returns
    -------
    counts and problems as in ``pairs.import_report``, with `imported`: how many grades are new
    """
    collection, table = open_collection(run), read_pair_files(files)
    named = set(table.image1) | set(table.image2)
    images, column = collection.images, collection.class_column
    twins = same_pictures(run, collection)
    twins = twins[twins.image1.isin(named) & twins.image2.isin(named)]
    counts, problems = import_report(table, images, twins, column)
    graded = usable(merge(table).pairs.dropna(subset="similarity"), images)
    journal = Journal(run.journal)
    held = {pair: acts[name].grade for pair, acts in journal.votes().items() for name in (IMPORTER, AUTOMATIC)
            if name in acts}
    known = graded.similarity == [held.get(pair) for pair in zip(graded.image1, graded.image2)]
    graded = graded[~known]
    classes = images.set_index("image")[column] if column else pd.Series(0, index=images.image)
    across = graded.image1.map(classes) != graded.image2.map(classes)
    automatic = across & (graded.similarity == 0)
    counts["imported"] = journal.append_many(graded[automatic], AUTOMATIC, AUTOMATIC) + journal.append_many(
        graded[~automatic], IMPORTER, IMPORTER)
    problems.to_csv(run.labels / "import_problems.csv", index=False, lineterminator="\n")
    return counts, problems


def export_labels(run: Run, file: Path) -> int:
    """Write the run's current grades as a pairs CSV that can be imported again; return how many."""
    labels = Journal(run.journal).labels()
    if labels.empty:
        raise ValueError(f"run {run.name} has no grades to export")
    write_pairs(labels, file)
    return len(labels)


def summarise_labels(run: Run) -> dict[str, Any]:
    """Count the run's current grades: `pairs`, `automatic`, `grades`, `annotators`, and `alpha` where two agree or not.

    alpha : Krippendorff's, ordinal; None where no pair was graded by two people
    """
    journal = Journal(run.journal)
    labels, found = journal.labels(), agreement(journal)
    people = labels[labels.source != AUTOMATIC]
    annotators = pd.Series([act.annotator for act in journal.standing() if act.source != AUTOMATIC], dtype=str)
    return {
        "pairs": len(labels),
        "automatic": len(labels) - len(people),
        "grades": {int(grade): int(count) for grade, count in people.similarity.value_counts().sort_index().items()},
        "annotators": {name: int(count) for name, count in annotators.value_counts().items()},
        "alpha": None if pd.isna(found.alpha) else round(found.alpha, 3),
        "to_adjudicate": len(found.queue),
    }
