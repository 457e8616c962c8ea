"""Pictures that are removed between two sittings leave a run that goes on."""

import pandas as pd
import pytest

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.encoders.embed_collection import embed_run, open_images
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.steps.tagging import asked_pairs, with_zeros
from imgsearch_utils.steps.teaching_session import TeachingSession, learn_now
from imgsearch_utils.web.teaching_page import Classroom, Teaching
from tests import tiny_study
from tests.tiny_study import living_in


@pytest.fixture
def taught(tmp_path):
    """A run whose pairs of round 1 are graded but for the last ten."""
    run = tiny_study.make(tmp_path, promoted=False)
    with living_in(tmp_path):
        train = open_images(run).train
        asked = choose_pairs(Pool.of(train), "random", 60, 0)
        with_zeros(asked, train, 0, 0).assign(side="train").to_csv(run.round(1).pairs, index=False)
        journal, same = Journal(run.journal), train.same_class(asked)
        for one, two, of_one_class in list(zip(asked.image1, asked.image2, same))[:-10]:
            journal.append("Ada", one, two, "grade", grade=3 if of_one_class else 0, round=1)
        yield run


@pytest.mark.parametrize("embedded", [True, False])
def test_a_run_goes_on_without_a_picture_that_was_removed(taught, tmp_path, embedded):
    before, acts = asked_pairs(taught.round(1)), Journal(taught.journal).acts()
    removed = before.image1.iloc[-1]
    (tmp_path / "pictures" / removed).unlink()
    if embedded:
        embed_run(taught, open_collection(taught))
        lesson = learn_now(taught)
        assert not any(removed in pair for pair in lesson.grades)
        assert 20 < len(lesson.grades) < 50
        assert TeachingSession(taught, "tiny").gone == [removed]
    said = []
    room = Classroom(taught, "tiny")
    page = Teaching(room, lambda message, _=(): said.append(message))
    shown = room.task().pairs
    assert removed not in {*shown.image1, *shown.image2} and len(shown)
    page.receive({"kind": "hello", "name": "Ada"})
    page.receive({"kind": "news"})
    assert [message["kind"] for message in said] == ["state", "lesson"]
    assert (removed in said[-1]["line"]) == (embedded and said[-1]["state"] == "waiting")
    room.lessons.close()
    assert Journal(taught.journal).acts() == acts
    left = pd.concat([before.image1, before.image2]) == removed
    assert left.any()
