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


def test_search_counts_as_worse_where_it_lost_more_than_a_hundredth():
    rows = pd.DataFrame(
        [
            ("s", "random", seed, 60, True, 0.5 + gain, 0.5, 0.6, 0.6)
            for seed, gain in enumerate([0.1, -0.009, -0.011])
        ],
        columns=[
            "study",
            "strategy",
            "seed",
            "labels",
            "promoted",
            "used_ap",
            "encoder_ap",
            "used_ndcg",
            "encoder_ndcg",
        ],
    )
    [found] = acquisition.trust(rows).itertuples()
    assert (found.seeds, found.worse, found.promoted) == (
        3,
        1,
        1,
    ) and found.used_ap == pytest.approx(0.08 / 3)


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
        learning_curves.per_seed(curves(VALUES), "strategy"), "strategy", ("random",)
    )
    row = found[(found.strategy == "clever") & (found.measure == "area")].iloc[0]

    def area(ap):
        return ((ap[0] + ap[1]) / 2 * 100 + (ap[1] + ap[2]) / 2 * 200) / 300

    differences = [
        area(one) - area(other) for one, other in zip(VALUES["clever"], VALUES["random"])
    ]
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        drawn = [differences[rng.integers(3)] for _ in range(3)]
        means.append(sum(drawn) / 3)
    assert row.gain == pytest.approx(sum(differences) / 3)
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)
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
