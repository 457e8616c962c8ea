"""Persons who teach a run, by the queue of the page and its lessons: an honest one, and three whose
grades carry nothing.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.asking.advice import advise
from imgsearch_utils.encoders.embed_collection import embed_run
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images import Images
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import split_by_group
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.steps import tagging
from imgsearch_utils.steps.teaching_session import LessonMessage, learn_now
from imgsearch_utils.study import parse_study
from imgsearch_utils.web.pair_order import make_queue
from imgsearch_utils.workspace import Run, write_atomic

GRADES, LESSONS, REPEATS = 240, 4, 0.1
SEEN = 6  # of twelve dimensions, those that the honest person looks at


@pytest.fixture
def run(home) -> Run:
    """A run without classes, to be taught: 150 vectors of twelve dimensions."""
    values = {
        "study": "taught",
        "images": {"source": "points", "vectors": "v.npy"},
        "oracle": "person",
        "asked_per_round": GRADES,
        "zeros_per_round": 0,
        "head": {"epochs": 6, "hidden": 16},
    }
    names = [f"{k:03d}.png" for k in range(150)]
    folder = home / "datasets" / "points"
    folder.mkdir(parents=True)
    pd.DataFrame({"file_label": names}).to_csv(folder / "labels.csv", index=False)
    vectors = np.random.default_rng(7).normal(size=(len(names), 12)).astype(np.float32)
    np.save(folder / "v.npy", vectors)
    run = Run("taught", parse_study(values))
    run.labels.mkdir(parents=True)
    collection = open_collection(run)
    embeddings, _ = embed_run(run, collection)
    images = Images(collection.images.assign(group=np.arange(len(names))), embeddings)
    images = split_by_group(images, 0, 0.2, 0)
    write_atomic(run.labels / "images.csv", images.table.to_csv(index=False))
    first = run.round(0).pairs
    first.parent.mkdir()
    write_atomic(first, tagging.first_pairs(run, images).to_csv(index=False))
    return run


Grading = Callable[[np.ndarray, np.ndarray, np.random.Generator], float]


def teach(run: Run, grading: Grading) -> tuple[LessonMessage, str]:
    """Grade what the round asks, with lessons between; the last lesson and its advice."""
    this, journal, rng = run.round(0), Journal(run.journal), np.random.default_rng(0)
    unit = dict(zip([f"{k:03d}.png" for k in range(150)], normalised(np.load(_vectors(run)))))
    for at in range(0, GRADES + GRADES // 10, (GRADES + GRADES // 10) // LESSONS):
        queue = make_queue(tagging.asked_pairs(this), 0, "ada", REPEATS)
        for item in queue[at : at + len(queue) // LESSONS]:
            grade = float(grading(unit[item.left], unit[item.right], rng))
            journal.append("ada", *item.pair, "grade", grade=grade, source=item.source)
        lesson = learn_now(run)
        if lesson.drafts:
            tagging.take_over(this, lesson.drafts, set())
    assert len(lesson.grades) == GRADES  # what was drafted anew kept its places
    return lesson, advise(lesson.decision, len(lesson.grades))


def _vectors(run):
    return run.data / "v.npy"


def honest(one, two, _):
    """By the cosine of half of the dimensions, of which the encoder sees all."""
    parts = normalised(np.stack([one, two])[:, :SEEN])
    return np.digitize(parts[0] @ parts[1], [0.3, 0.55, 0.75])


def at_random(one, two, rng):
    return rng.integers(0, 4)


def always_similar(one, two, rng):
    return 3


def against_the_grain(one, two, _):
    """The less alike two images are, the more similar they are said to be."""
    return np.digitize(-(one @ two), [-0.5, -0.3, 0.0])


def test_an_honest_person_is_believed(run):
    lesson, _ = teach(run, honest)
    assert lesson.decision.used and lesson.decision.answer in ("shown", "probable")
    assert lesson.decision.evidence.by == "lists"


@pytest.mark.parametrize(
    ("grading", "told"),
    [
        (at_random, "Pairs that were asked twice got other grades the second time"),
        (always_similar, "grades nothing can be compared: a list tells something only where"),
    ],
)
def test_who_teaches_nothing_is_told_so_and_search_is_unharmed(run, grading, told):
    lesson, advice = teach(run, grading)
    assert told in advice
    assert not lesson.decision.used


def test_who_grades_against_the_grain_is_told_so_and_gets_no_worse_results(run):
    """Search follows such a person where it can, so the lists are in no worse order than before."""
    lesson, advice = teach(run, against_the_grain)
    assert advice.startswith("Your grades go against the encoder: of two results")
    assert not lesson.decision.used or lesson.decision.evidence.difference > 0
