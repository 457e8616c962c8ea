"""Queues put first what needs an annotator most, and refuse what is not there."""

import time

import pandas as pd
import pytest

from imgsearch_utils.labels.journal import AUTOMATIC, Journal
from imgsearch_utils.pages.queues import open_queue, pooled, voted


def test_results_that_nobody_judged_are_pooled_over_systems():
    rankings = pd.DataFrame(
        [
            ("a", "b", "cosine", 1),
            ("a", "c", "cosine", 2),
            ("a", "d", "cosine", 3),
            ("a", "c", "head", 1),
            ("c", "a", "head", 1),
            ("e", "a", "head", 2),
            ("d", "e", "head", 1),
        ],
        columns=["query_image", "retrieved_image", "system", "rank"],
    )
    labels = pd.DataFrame({"image1": ["b"], "image2": ["a"], "similarity": [2.0]})
    assert pooled(rankings, labels, 2).values.tolist() == [
        ["a", "c", 2, 1],
        ["d", "e", 1, 1],
        ["a", "e", 1, 2],
    ]
    assert pooled(rankings, labels[:0], 1)[["image1", "image2"]].values.tolist() == [
        ["a", "b"],
        ["a", "c"],
        ["d", "e"],
    ]


def test_voted_pairs_wait_until_somebody_grades_them(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    assert voted(journal).empty
    journal.append(AUTOMATIC, "a", "b", "grade", grade=0, source=AUTOMATIC)
    for name, pair, act in (
        ("ann", "b", "vote_up"),
        ("ann", "c", "vote_up"),
        ("bob", "b", "vote_down"),
        ("ann", "d", "vote_down"),
        ("ann", "e", "vote_up"),
        ("ann", "e", "unvote"),
    ):
        journal.append(name, "a", pair, act)
        time.sleep(0.002)  # the journal's clock counts milliseconds
    assert voted(journal)[["image2", "up", "down"]].values.tolist() == [
        ["b", 1, 1],
        ["d", 0, 1],
        ["c", 1, 0],
    ]
    journal.append("cat", "a", "d", "skip")
    journal.append("cat", "a", "b", "grade", grade=2)
    assert voted(journal).image2.tolist() == ["d", "c"]
    journal.append("cat", "a", "b", "undo")
    assert voted(journal).image2.tolist() == ["b", "d", "c"]


def test_an_unknown_queue_is_refused():
    with pytest.raises(ValueError, match="Did you mean disagreements"):
        open_queue(None, "disagreement", 0)
