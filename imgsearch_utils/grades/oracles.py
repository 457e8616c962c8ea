"""Who answers when no person is there: the rubric of drawn houses, a class hierarchy, or labels
given before.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from imgsearch_utils.grades.pairs import key, merge, read_pair_files
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.registry import Registry

Oracle = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]
ORACLES = Registry("oracle", wings="oracles")  #: name -> Oracle


def answer(oracle: str, pairs: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """Grade pairs by a registered oracle.

    Parameters
    ----------
    pairs : n rows with image1, image2
    known : what the oracle knows. ``rubric``: the drawn houses' attributes (``attributes.csv``);
        ``hierarchy``: an images table, `image` and its class columns, coarse to fine;
        ``replay``: pairs graded before

    Returns
    -------
    (n,) grades 0..3; NaN where the oracle has no answer, which is logged

    Raises
    ------
    ValueError
        for an unknown oracle, or a pair with an image that the oracle does not know.
    """
    grades = np.asarray(ORACLES.find(oracle)(pairs, known), float)
    silent = np.flatnonzero(np.isnan(grades))
    if len(silent):
        example = pairs.iloc[silent[0]]
        logging.getLogger(__name__).warning(
            "%s: %d of %d pairs have no answer and stay ungraded, e.g. %s and %s",
            oracle,
            len(silent),
            len(pairs),
            example.image1,
            example.image2,
        )
    return grades


def people_pairs(run: Run) -> pd.DataFrame:
    """All pairs of the study's label files as they stand: `round` is the file's number, `file` and
    `row` its place.
    """
    table = read_pair_files([run.data / name for name in run.study.labels])
    return table.assign(
        round=table.file.map({Path(name).name: n for n, name in enumerate(run.study.labels)})
    )


def known_to_oracle(run: Run, collection: Collection) -> pd.DataFrame | None:
    """What the study's oracle answers from; None where only people know.

    ValueError for a hierarchy of one level, which would call every pair of a class similar: that
    needs no asking."""
    if run.study.oracle == "rubric":
        return pd.read_csv(run.data / "attributes.csv")
    if run.study.oracle == "hierarchy":
        if len(collection.class_columns) < 2:
            raise ValueError(
                "oracle: hierarchy needs two levels of classes or more, from coarse to fine; "
                "with one it "
                "knows no more than the classes: write oracle: person, and the study begins with "
                "these"
            )
        return collection.images
    return people_pairs(run) if run.study.oracle == "replay" else None


@ORACLES.register("hierarchy")
def hierarchy(pairs: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """Same finest class 3, same class one level up 2, two levels up 1, else 0.

    So one level gives 3 or 0, two levels 3, 2 or 0. Classes are equal when their whole path from
    the coarsest is."""
    levels = known.drop(columns=["image", "group", "side"], errors="ignore")
    if levels.empty or not len(levels.columns):
        raise ValueError(
            "hierarchy: expected at least one class column beside image; name another oracle"
        )
    row = {image: i for i, image in enumerate(known.image)}
    strangers = sorted((set(pairs.image1) | set(pairs.image2)) - row.keys())
    if strangers:
        raise ValueError(
            f"hierarchy: {len(strangers)} image(s) have no class, e.g. {strangers[0]}; label them"
        )
    one, two = (
        levels.to_numpy(object)[[row[image] for image in pairs[split]]]
        for split in ("image1", "image2")
    )
    shared = np.cumprod(one == two, axis=1).sum(axis=1)  # levels from the coarsest that both share
    return np.maximum(3 - (levels.shape[1] - shared), 0) * (shared > 0)


@ORACLES.register("replay")
def replay(pairs: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """The grades that were given before (by `merge`'s rule where they differ); NaN where nobody
    judged.
    """
    judged = merge(known).pairs
    grades = dict(zip(zip(judged.image1, judged.image2), judged.similarity))
    return np.array(
        [grades.get(key(a, b), np.nan) for a, b in zip(pairs.image1, pairs.image2)], float
    )
