"""What more grades should bring: the number recomputed, the sentence in clear cases."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from imgsearch_utils.asking import advice


def log(ap):
    return pd.DataFrame({"asked": 120 * np.arange(1, len(ap) + 1), "dev_head_ap": ap})


def test_the_expected_gain_is_a_line_in_the_logarithm():
    ap = [0.30, 0.36, 0.38, 0.43]
    gain, low, high = advice.expected_gain(log(ap))
    line = linregress(np.log([120, 240, 360, 480]), ap)
    assert gain == pytest.approx(line.slope * np.log(580 / 480))
    assert high - gain == pytest.approx(4.302653 * line.stderr * np.log(580 / 480), rel=1e-5)
    assert low < gain < high
    assert np.isnan(advice.expected_gain(log([0.3]))).all()
    assert np.isinf(advice.expected_gain(log([0.3, 0.4]))[1:]).all()


@pytest.mark.parametrize(
    ("ap", "verdict"),
    [
        ([0.30, 0.36, 0.38, 0.43], "worth asking."),
        ([0.50, 0.50, 0.50, 0.50], ": not worth your time."),
        ([0.50, 0.40, 0.47, 0.46], "perhaps not worth your time."),
    ],
)
def test_the_sentence_follows_the_interval(ap, verdict):
    sentence = advice.advise(log(ap))
    assert sentence.startswith("100 more grades should change") and sentence.endswith(verdict)


@pytest.mark.parametrize("ap", [[], [0.3], [0.3, 0.4]])
def test_too_few_rounds_say_nothing(ap):
    assert advice.advise(log(ap)) == ""
