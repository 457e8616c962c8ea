"""The stopping adviser: its numbers recomputed, its advice in clear cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from imgsearch_utils import workspace
from imgsearch_utils.asking import advice
from imgsearch_utils.study import parse_study
from imgsearch_utils.workspace import Run

PAIRS = pd.MultiIndex.from_tuples(
    [(f"a{i}", f"b{i}") for i in range(40)], names=["image1", "image2"]
)


def log(ap):
    return pd.DataFrame({"asked": 120 * np.arange(1, len(ap) + 1), "dev_head_ap": ap})


def said(*rounds):
    return [pd.Series(np.array(round_, bool), PAIRS[: len(round_)]) for round_ in rounds]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_agreement_beyond_chance(both):
    one, two = zip(*both)
    observed = np.mean([a == b for a, b in both])
    chance = np.mean(one) * np.mean(two) + (1 - np.mean(one)) * (1 - np.mean(two))
    expected = 1.0 if observed == 1 else (observed - chance) / (1 - chance)
    assert advice.agreements(said(one, two)) == [pytest.approx(expected)]


def test_only_pairs_that_both_rounds_know_are_compared():
    before, after = said([1, 0, 1], [1, 0, 1, 1, 1])
    assert advice.agreements([before, after.iloc[::-1]]) == [1.0]


def test_the_expected_gain_is_a_line_in_the_logarithm():
    ap = [0.30, 0.36, 0.38, 0.43]
    gain, low, high = advice.expected_gain(log(ap))
    line = linregress(np.log([120, 240, 360, 480]), ap)
    assert gain == pytest.approx(line.slope * np.log(580 / 480))
    assert high - gain == pytest.approx(4.302653 * line.stderr * np.log(580 / 480), rel=1e-5)
    assert low < gain < high
    assert np.isnan(advice.expected_gain(log([0.3]))).all()
    assert np.isinf(advice.expected_gain(log([0.3, 0.4]))[1:]).all()


def test_goes_on_while_the_curve_rises_and_stops_when_nothing_moves():
    rising = advice.advise(said([1, 0] * 9, [0, 1] * 9, [1, 1] * 9), log([0.3, 0.4, 0.5]))
    assert rising[-1].startswith("Advice: go on (0 of 3")
    still = advice.advise(said(*[[1, 0] * 9] * 5), log([0.5, 0.5, 0.5, 0.5, 0.5]))
    assert still[-1].startswith("Advice: stop, unless you know better (3 of 3")
    assert advice.advise(said([1, 0]), log([0.3])) == [
        "Advice: go on; one round says nothing of the next."
    ]
    assert len(advice.advise(said([1, 0], [1, 0]), log([0.3, 0.4]))) == 4


def test_decisions_are_those_of_the_dev_pairs_at_the_calibrated_threshold(home):
    run = Run("mine", parse_study({"study": "mine", "images": {"source": "x"}}))
    workspace.write_json(run.models / "round_00" / "calibration.json", {"head": {"threshold": 0.4}})
    scored = pd.DataFrame(
        {
            "image1": ["a", "b", "c"],
            "image2": ["d", "e", "f"],
            "side": ["dev", "dev", "test"],
            "p_similar": [0.4, 0.39, 0.9],
        }
    )
    (run.results / "round_00").mkdir(parents=True)
    scored.to_csv(run.results / "round_00" / "scored_pairs.csv", index=False)
    assert advice.decisions(run.round(0)).to_dict() == {("a", "d"): True, ("b", "e"): False}
