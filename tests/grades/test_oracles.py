"""Every registered oracle answers pairs in either order with grades 0..3, and says where it
cannot.
"""

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.drawn_houses import sample_houses
from imgsearch_utils.grades.oracles import ORACLES, answer

LEVELS = pd.DataFrame(
    {
        "image": list("abcde"),
        "top": list("FFFFV"),
        "coarse": list("ppppq"),
        "fine": ["m", "m", "n", "o", "m"],
    }
)


def pairs_of(*pairs):
    return pd.DataFrame([tuple(pair) for pair in pairs], columns=["image1", "image2"])


def known_to(oracle):
    if oracle == "rubric":
        return sample_houses(6, seed=0), "file_label"
    if oracle == "hierarchy":
        return LEVELS, "image"
    names = list("abcdef")
    graded = [
        (one, two, (i + j) % 4)
        for i, one in enumerate(names)
        for j, two in enumerate(names)
        if i < j
    ]
    return pd.DataFrame(graded, columns=["image1", "image2", "similarity"]), "image1"


@pytest.mark.parametrize("oracle", ORACLES)
def test_every_oracle_answers_with_grades_and_does_not_care_about_order(oracle):
    known, column = known_to(oracle)
    names = sorted(known[column].unique())
    pairs = pairs_of(*[(one, two) for one in names for two in names if one < two])
    grades = answer(oracle, pairs, known)
    assert grades.shape == (len(pairs),) and grades.dtype == float
    assert set(grades) <= {0, 1, 2, 3} and len(set(grades)) > 1
    turned = pairs.rename(columns={"image1": "image2", "image2": "image1"})
    np.testing.assert_array_equal(answer(oracle, turned, known), grades)


def test_a_hierarchy_gives_a_grade_less_for_each_level_up():
    pairs = pairs_of("ab", "ac", "ae")
    deep = LEVELS.assign(coarse=list("pppqq"))
    assert answer("hierarchy", pairs_of("ab", "ac", "ad", "ae"), deep).tolist() == [3, 2, 1, 0]
    assert answer("hierarchy", pairs, LEVELS[["image", "coarse", "fine"]]).tolist() == [3, 2, 0]
    assert answer(
        "hierarchy", pairs, LEVELS[["image", "coarse"]].assign(group=0, side="dev")
    ).tolist() == [3, 3, 0]
    assert answer("hierarchy", pairs_of("ae"), LEVELS).tolist() == [0]  # one word, two classes
    with pytest.raises(ValueError, match="at least one class column"):
        answer("hierarchy", pairs, LEVELS[["image"]])
    with pytest.raises(ValueError, match="1 image.*no class, e.g. z"):
        answer("hierarchy", pairs_of("az"), LEVELS)


def test_a_pair_that_nobody_judged_stays_ungraded_and_is_reported(caplog):
    known = pd.DataFrame({"image1": ["b", "a"], "image2": ["a", "b"], "similarity": [2.0, 3.0]})
    np.testing.assert_array_equal(
        answer("replay", pairs_of("ab", "ba", "ac"), known), [2, 2, np.nan]
    )
    assert "1 of 3 pairs have no answer and stay ungraded, e.g. a and c" in caplog.text


def test_an_unknown_oracle_and_a_name_taken_twice_are_refused():
    with pytest.raises(ValueError, match="Did you mean rubric"):
        answer("rubrik", pairs_of("ab"), LEVELS)
    with pytest.raises(ValueError, match="replay is registered already"):
        ORACLES.register("replay")(lambda pairs, known: None)
