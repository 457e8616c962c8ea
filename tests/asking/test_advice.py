"""Advice on more grades: what it takes to be sure, and when a notion does not take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from imgsearch_utils.asking import advice
from imgsearch_utils.learning.promotion import ENCODER, PRECISION, Evidence, decide


def decision(chance, n=20, by="lists", look=2, learnt=0.55):
    return decide(
        Evidence(by, n, PRECISION, ENCODER, 0.5, learnt, -0.02, 0.12, chance, look), in_search=False
    )


@given(st.floats(0.02, 0.45), st.integers(5, 60))
def test_with_so_many_more_at_the_same_gain_it_is_shown(chance, n):
    more = advice.grades_to_tell(decision(chance, n))
    lists = n + more / 12
    then = norm.sf(norm.isf(chance) * np.sqrt(lists / n))
    assert decide(decision(then * 0.999, look=3).evidence, False).answer == "shown"
    assert more == pytest.approx(12 * advice.grades_to_tell(decision(chance, n, "pairs")))


@pytest.mark.parametrize(
    ("chance", "asked", "said"),
    [
        (1e-6, 120, "Enough to be sure"),
        (0.02, 120, "Go on: at this rate about"),
        (0.6, 120, "Go on: it is too early to tell."),
        (0.6, 240, "After 240 grades this notion does not take"),
        (0.99, 240, "After 240 grades this notion does not take"),
        (np.nan, 60, "Go on: it is too early to tell."),
        (np.nan, 240, "After 240 grades nothing can be compared"),
    ],
)
def test_the_sentence_follows_the_decision(chance, asked, said):
    assert advice.advise(decision(chance), asked).startswith(said)


def test_without_a_similar_pair_it_says_which_grades_are_missing():
    said = advice.advise(decision(np.nan, by="pairs", learnt=np.nan), 60)
    assert said.startswith("Nothing can be measured yet") and "grade some of both" in said
