"""ann: the judge measures rightly, trusts nobody, and chooses as its rule says."""

import json

import numpy as np
import pandas as pd
import pytest
from test_indexes import clustered

from imgsearch_utils import ann, indexes
from imgsearch_utils.study import IndexSettings

VECTORS, QUERIES = clustered(1200), clustered(60, seed=1)
FEW = [
    IndexSettings(name="exact"),
    IndexSettings(name="faiss_hnsw", build={"m": 8}, query={"ef": [10, 200]}),
    IndexSettings(name="annoy", build={"trees": 5}, query={"search_k": [20, 4000]}),
]


@pytest.fixture(scope="module")
def table():
    lines = []
    found = ann.compare_indexes(VECTORS, QUERIES, FEW, k=10, runs=2, n_single=20, progress=lines.append)
    assert len(lines) == 3 + len(found) and lines[-1].startswith("5/5 annoy")
    return found


def test_a_row_for_every_point_with_speed_latency_and_size(table):
    assert table["index"].tolist() == ["exact", "faiss_hnsw", "faiss_hnsw", "annoy", "annoy"]
    points = [{}, {"ef": 10}, {"ef": 200}, {"search_k": 20}, {"search_k": 4000}]
    assert [json.loads(query) for query in table["query"]] == points
    measured = table[["build_seconds", "batch_qps", "single_qps", "p50_ms", "bytes"]]
    assert (measured > 0).all(axis=None)
    assert (table["p50_ms"] <= table["p95_ms"]).all() and (table["p95_ms"] <= table["p99_ms"]).all()
    assert (table["batch_qps_lowest"] <= table["batch_qps"]).all()
    assert (table["bytes"] >= VECTORS.nbytes).all() and (table["memory_bytes"] > 0).all()
    assert table.loc[0, "library"].startswith("faiss 1.")


def test_recall_is_that_of_counting_neighbours(table):
    assert table.loc[0, ["recall@1", "recall@5", "recall@10"]].tolist() == [1, 1, 1]
    truth = np.argsort(-QUERIES @ VECTORS.T, axis=1)[:, :10]
    found = indexes.find("annoy")().build(VECTORS, trees=5).query(QUERIES, 10, search_k=20)
    counted = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth)])
    assert table.loc[3, "recall@10"] == pytest.approx(counted, abs=0.03)  # a forest built by several threads varies
    assert table.loc[3, "recall@10"] < table.loc[4, "recall@10"]


def test_tied_neighbours_count_for_either():
    vectors = np.repeat(VECTORS[:20], 8, axis=0)  # every vector eight times: any of them will do
    found = ann.compare_indexes(vectors, VECTORS[:5], [IndexSettings(name="torch"), FEW[1]], k=4, runs=1)
    assert (found["recall@4"] > 0.99).all()


@pytest.mark.parametrize("wrong, message", [(3, "got 3 twice for query 1"), (1200, "got 1200"), (-7, "got -7")])
def test_duplicated_and_impossible_ids_are_refused(wrong, message):
    ids = np.tile(np.arange(5), (2, 1))
    ids[1, 0] = wrong
    with pytest.raises(ValueError, match=message):
        ann.distances_of(VECTORS, QUERIES[:2], ids)


def test_what_was_not_found_is_missing_and_not_near():
    distances = ann.distances_of(VECTORS, VECTORS[:1], np.array([[0, -1]]))
    assert distances[0, 0] == pytest.approx(0, abs=1e-6) and np.isnan(distances[0, 1])


def test_settings_are_refused_before_anything_is_built():
    for settings, message in [
        (IndexSettings(name="faiss_hnws"), "Did you mean faiss_hnsw"),
        (IndexSettings(name="annoy", build={"tree": 5}), "Did you mean trees"),
        (IndexSettings(name="annoy", query={"serch_k": [5]}), "Did you mean search_k"),
    ]:
        lines = []
        with pytest.raises(ValueError, match=message):
            ann.compare_indexes(VECTORS, QUERIES, [FEW[0], settings], progress=lines.append)
        assert not lines


def test_a_missing_library_is_reported_and_the_comparison_goes_on(monkeypatch):
    absent = {"module": "no_such_library", "extra": "absent", "name": "absent"}
    monkeypatch.setitem(indexes.INDEXES, "absent", type("Absent", (indexes.find("exact"),), absent))
    found = ann.compare_indexes(VECTORS, QUERIES, [IndexSettings(name="absent"), FEW[0]], runs=1, n_single=2)
    assert 'pip install "imgsearch-utils[absent]"' in found.loc[0, "problem"]
    assert found.loc[1, "recall@10"] == 1 and found.loc[1, "problem"] == ""
    assert ann.recommend(found, 0.9)["index"] == "exact"


def rows(*points):
    frame = pd.DataFrame(points, columns=["index", "recall@10", "single_qps", "p95_ms"])
    return frame.assign(build="{}", query='{"ef": 3}', n=5, k=10)


def test_the_front_holds_what_nothing_beats_in_both():
    table = rows(("a", 1.0, 10, 1), ("b", 0.9, 50, 1), ("c", 0.9, 40, 1), ("d", 0.8, 50, 1), ("e", 0.5, 99, 1))
    assert ann.pareto(table)["index"].tolist() == ["e", "b", "a"]


def test_recommends_the_fastest_that_is_good_enough_and_exact_when_that_wins():
    slow = rows(("exact", 1.0, 10, 100.0), ("b", 0.96, 50, 5.0), ("c", 0.9, 90, 1.0))
    assert ann.recommend(slow, 0.95)["index"] == "b" and ann.recommend(slow, 0.95)["query"] == {"ef": 3}
    assert ann.recommend(slow, 0.97)["index"] == "exact"
    quick = rows(("exact", 1.0, 10_000, 0.1), ("b", 0.96, 50_000, 0.02))
    assert ann.recommend(quick, 0.95)["index"] == "exact" and "notice" in ann.recommend(quick, 0.95)["reason"]
    assert ann.recommend(quick, 0.95, unnoticed_ms=0)["index"] == "b"
    with pytest.raises(ValueError, match="no index reached recall@10 of 0.95, the best has 0.900"):
        ann.recommend(slow[slow["index"] == "c"], 0.95)


def test_held_out_queries_are_not_in_the_gallery():
    gallery, queries = ann.hold_out(100, 20, seed=3)
    assert sorted([*gallery, *queries]) == list(range(100)) and len(queries) == 20
    with pytest.raises(ValueError, match="n_queries must be 1 to 99"):
        ann.hold_out(100, 100)
