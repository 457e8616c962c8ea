"""The benchmarks of acquisition and losses: tiny, they run, go on where they stopped, and their
gains add up.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from benchmarks import acquisition, examples, learning_curves


def test_harm_is_a_share_of_the_cases_in_which_search_uses_what_was_learnt():
    columns = ["study", "strategy", "seed", "labels", "promoted", "answer", "ap"]
    columns += [f"{of}_{name}" for name in ("ap", "ndcg") for of in ("used", "encoder", "before")]
    cases = [(0.1, "shown"), (-0.009, "probable"), (-0.011, "open"), (0.0, "worse"), (0.0, "open")]
    rows = [
        ("s", "random", seed, 60, seed < 3, answer, 0.6, 0.5 + gain, 0.5, 0.5, 0.6, 0.6, 0.59)
        for seed, (gain, answer) in enumerate(cases)
    ]
    rows += [("unused", "random", 0, 60, False, "open", 0.6, 0.5, 0.5, 0.5, 0.6, 0.6, 0.6)]
    rows += [("older", "random", 0, 60, True, np.nan, 0.6, 0.6, 0.5, 0.5, 0.6, 0.6, 0.6)]
    found = acquisition.trust(pd.DataFrame(rows, columns=columns))
    one = found.set_index("study").loc["s"]
    assert (one.cases, one.used, one.shown, one.worse, one.worse_than_before) == (5, 3, 1, 1, 1)
    assert one.used_ap == pytest.approx(0.08 / 5) and one.kept == pytest.approx(0.16)
    assert "older" not in set(found.study)
    harm = acquisition.harm(found).set_index("study")
    assert harm.share["s"] == pytest.approx(1 / 3) and np.isnan(harm.share["unused"])


def curves(values):
    """Rows of one study: {strategy: [AP at 100, 200, 400 labels, one list a seed]}."""
    return pd.DataFrame(
        [
            {"study": "s", "strategy": name, "seed": seed, "labels": labels, "ap": ap}
            for name, seeds in values.items()
            for seed, curve in enumerate(seeds)
            for labels, ap in zip((100, 200, 400), curve)
        ]
    )


VALUES = {
    "random": [[0.2, 0.3, 0.4], [0.3, 0.3, 0.5], [0.1, 0.2, 0.6]],
    "clever": [[0.2, 0.4, 0.5], [0.3, 0.5, 0.5], [0.1, 0.4, 0.5]],
}


def test_a_paired_interval_is_that_of_plain_loops():
    found = learning_curves.gains(
        learning_curves.per_seed(curves(VALUES), "strategy"),
        "strategy",
        ("random",),
        {"s": 0.2}.get,
    )
    row = found[(found.strategy == "clever") & (found.measure == "area")].iloc[0]

    def area(ap):
        return ((ap[0] + ap[1]) / 2 * 100 + (ap[1] + ap[2]) / 2 * 200) / 300

    differences = [
        area(one) - area(other) for one, other in zip(VALUES["clever"], VALUES["random"])
    ]
    mean = sum(differences) / 3
    variance = sum((one - mean) ** 2 for one in differences) / 2
    # Student's t of two degrees of freedom; of five images one tests and four train
    reach = 4.302653 * ((1 / 3 + 1 / 4) * variance) ** 0.5
    assert (row.gain, row.low, row.high) == pytest.approx((mean, mean - reach, mean + reach))
    assert row.seeds == 3 and row.won == sum(difference > 0 for difference in differences)
    at_300 = found[(found.strategy == "clever") & (found.measure == "ap_300")].iloc[0]
    middle = [
        (one[1] + one[2]) / 2 - (other[1] + other[2]) / 2
        for one, other in zip(*map(VALUES.get, ("clever", "random")))
    ]
    assert at_300.gain == pytest.approx(np.mean(middle))
    assert not (found.measure == "ap_600").any()  # nothing was measured there


def test_unfinished_curves_take_no_part():
    rows = curves(VALUES)
    found = learning_curves.per_seed(rows[:-1], "strategy")
    assert len(found) == 5


def test_labels_to_match_random_s_end():
    values = {"random": [[0.2, 0.3, 0.4]], "clever": [[0.2, 0.5, 0.6]], "worse": [[0.1, 0.1, 0.1]]}
    found = (
        learning_curves.labels_to_match(curves(values), "strategy")
        .set_index("strategy")
        .labels_to_match
    )
    assert found["random"] == 400 and np.isnan(found["worse"])
    assert found["clever"] == pytest.approx(100 + 100 * 2 / 3)


@given(st.integers(0, 2**32 - 1), st.integers(11, 40))
def test_the_quick_ndcg_is_scikit_learns(seed, n):
    rng = np.random.default_rng(seed)
    grades, scores = rng.integers(0, 4, n).astype(float), rng.permutation(n) / n
    if grades.any():
        assert examples.ndcg_at_10(grades, scores) == pytest.approx(
            ndcg_score([2**grades - 1], [scores], k=10)
        )
