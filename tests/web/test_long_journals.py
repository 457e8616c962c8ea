"""An act on the teaching page costs the same however long the journal is."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.act_latency import acknowledged, lengthen
from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.encoders.embed_collection import open_images
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.steps.tagging import with_zeros
from imgsearch_utils.steps.teaching_session import PeoplesGrades
from tests import tiny_study
from tests.tiny_study import living_in


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run with a round that is made and pairs to ask."""
    home = tmp_path_factory.mktemp("long")
    run = tiny_study.make(home, promoted=False)
    with living_in(home):
        train = open_images(run).train
        asked = choose_pairs(Pool.of(train), "random", 60, 0)
        table = with_zeros(asked, train, 0, 0).assign(side="train")
        table.to_csv(run.round(1).pairs, index=False)
        yield run


@pytest.mark.slow  # a lesson is learnt in a process of its own meanwhile
def test_every_grade_is_acknowledged_and_kept_beside_other_pages_and_a_lesson(taught):
    lengthen(taught, 1_000)
    assert len(acknowledged(taught, "tiny", 8)) == 8
    given = [act for act in Journal(taught.journal).acts() if act.annotator == "person0"]
    assert [act.grade for act in given] == [0, 3, 1, 2, 0, 3, 1, 2]


def test_what_is_kept_up_act_by_act_is_what_is_read_at_once(tmp_path):
    """Grades, skips, undos and adjudications of three people on few pairs, in any order."""
    rng, journal = np.random.default_rng(0), Journal(tmp_path / "journal.csv")
    kept = PeoplesGrades(journal, {"a", "b", "c"})
    for _ in range(300):
        who, pair = rng.choice(["ann", "bob", "eve"]), rng.choice(list("abcd"), 2, replace=False)
        act = str(rng.choice(["grade", "grade", "skip", "unsure", "undo"]))
        source = str(rng.choice(["person", "adjudication", "automatic"]))
        grade = int(rng.integers(4)) if act == "grade" else None
        journal.append(who, *pair, act, grade=grade, source=source)
        if rng.random() < 0.2:
            kept.look()
    labels = Journal(journal.path).labels()
    labels = labels[(labels.source != "automatic") & ~labels.image2.eq("d")]
    expected = labels.set_index(["image1", "image2"]).similarity
    pd.testing.assert_series_equal(
        pd.Series(kept.look().grades).sort_index(), expected.sort_index(), check_names=False
    )
    fresh = Journal(journal.path)
    assert journal.standing() == fresh.standing()
    for who in ("ann", "bob", "eve"):
        assert journal.standing_by(who) == [act for act in fresh.standing() if act.annotator == who]
    for pair in [("a", "b"), ("c", "d")]:
        assert journal.standing_on(*pair[::-1]) == [
            act for act in fresh.standing() if (act.image1, act.image2) == pair
        ]
