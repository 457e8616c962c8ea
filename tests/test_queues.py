"""Queues put first what needs an annotator most, and refuse what is not there."""

import pandas as pd
import pytest

from imgsearch_utils.queues import open_queue, pooled, suspected_errors


def test_results_that_nobody_judged_are_pooled_over_systems():
    rankings = pd.DataFrame(
        [("a", "b", "cosine", 1), ("a", "c", "cosine", 2), ("a", "d", "cosine", 3), ("a", "c", "head", 1),
         ("c", "a", "head", 1), ("e", "a", "head", 2), ("d", "e", "head", 1)],
        columns=["query_image", "retrieved_image", "system", "rank"],
    )  # fmt: skip
    labels = pd.DataFrame({"image1": ["b"], "image2": ["a"], "similarity": [2.0]})
    assert pooled(rankings, labels, 2).values.tolist() == [["a", "c", 2, 1], ["d", "e", 1, 1], ["a", "e", 1, 2]]
    assert pooled(rankings, labels[:0], 1)[["image1", "image2"]].values.tolist() == [["a", "b"], ["a", "c"], ["d", "e"]]


def test_grades_that_the_model_finds_unlikely_come_first():
    scored = pd.DataFrame(
        [("b", "a", .1, .2, .3, .4, False), ("c", "d", .7, .1, .1, .1, False), ("e", "f", .0, .1, .2, .7, True)],
        columns=["image1", "image2", "p_grade_0", "p_grade_1", "p_grade_2", "p_grade_3", "automatic"],
    )  # fmt: skip
    labels = pd.DataFrame({"image1": ["a", "c", "e"], "image2": ["b", "d", "f"], "similarity": [3.0, 2.0, 0.0]})
    found = suspected_errors(scored, labels)
    assert found[["image1", "image2", "likelihood"]].values.tolist() == [["c", "d", 0.1], ["a", "b", 0.4]]
    assert len(suspected_errors(scored, labels, n=1)) == 1


def test_an_unknown_queue_is_refused():
    with pytest.raises(ValueError, match="Did you mean disagreements"):
        open_queue(None, "disagreement", 0)
