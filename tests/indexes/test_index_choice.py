"""Choosing an index: the front is what nothing beats, and the recommendation is as its rule
says.
"""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_utils import indexes


def rows(*points):
    frame = pd.DataFrame(points, columns=["index", "recall@10", "single_qps", "p95_ms"])
    return frame.assign(build="{}", query='{"ef": 3}', n=5, k=10)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1))
def test_the_front_is_what_nothing_beats_in_both(points):
    table = rows(*[(str(n), recall, speed, 1.0) for n, (recall, speed) in enumerate(points)])
    front = {points[int(name)] for name in indexes.pareto(table)["index"]}
    unbeaten = {
        (recall, speed)
        for recall, speed in points
        if not any(r >= recall and s >= speed and (r, s) != (recall, speed) for r, s in points)
    }
    assert front == unbeaten and indexes.pareto(table)["recall@10"].is_monotonic_increasing


def test_recommends_the_fastest_that_is_good_enough_and_exact_when_that_wins():
    slow = rows(("exact", 1.0, 10, 100.0), ("b", 0.96, 50, 5.0), ("c", 0.9, 90, 1.0))
    assert indexes.recommend(slow, 0.95)["index"] == "b" and indexes.recommend(slow, 0.95)[
        "query"
    ] == {"ef": 3}
    assert indexes.recommend(slow, 0.97)["index"] == "exact"
    quick = rows(("exact", 1.0, 10_000, 0.1), ("b", 0.96, 50_000, 0.02))
    chosen = indexes.recommend(quick, 0.95)
    assert chosen["index"] == "exact" and "notice" in chosen["reason"]
    assert indexes.recommend(quick, 0.95, unnoticed_ms=0)["index"] == "b"
    with pytest.raises(ValueError, match="no index reached recall@10 of 0.95, the best has 0.900"):
        indexes.recommend(slow[slow["index"] == "c"], 0.95)


def test_an_index_that_does_not_fit_is_not_recommended():
    table = rows(
        ("exact", 1.0, 10, 100.0),
        ("b", 0.96, 50, 5.0),
        ("c", 0.97, 40, 6.0),
        ("server", 0.99, 20, 9.0),
    )
    table = table.assign(memory_bytes=[2e9, 3e9, 5e8, float("nan")])
    assert indexes.recommend(table, 0.95)["index"] == "b"
    fits = indexes.recommend(table, 0.95, megabytes=600)
    assert fits["index"] == "c" and "that fits into 600 MB" in fits["reason"]
    assert indexes.recommend(table, 0.95, megabytes=100)["index"] == "server"
    with pytest.raises(
        ValueError,
        match="no index with recall@10 >= 0.95 fits into 100 MB; the smallest takes 500 MB",
    ):
        indexes.recommend(table[:3], 0.95, megabytes=100)


def test_says_up_to_which_size_exact_search_wins():
    small = rows(("exact", 1.0, 20_000, 0.1), ("b", 0.99, 30_000, 0.05)).assign(n=1_000)
    large = rows(("exact", 1.0, 50, 30.0), ("b", 0.99, 9_000, 0.2)).assign(n=100_000)
    chosen = indexes.recommend_by_size(pd.concat([large, small]), recall=0.95)
    assert chosen["n"].tolist() == [1_000, 100_000] and chosen["exact"].tolist() == [True, False]
