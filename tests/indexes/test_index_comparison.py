"""Comparing indexes: the judge measures rightly and trusts nobody, and a stopped comparison goes
on.
"""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from imgsearch_utils import indexes
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import IndexSettings
from tests.indexes.clusters import clustered

VECTORS, QUERIES = clustered(1200), clustered(60, seed=1)
FEW = [
    IndexSettings(name="exact"),
    IndexSettings(name="faiss_hnsw", build={"m": 8}, query={"ef": [10, 200]}),
    IndexSettings(name="annoy", build={"trees": 5}, query={"search_k": [20, 4000]}),
]


def bar_that(says):
    """A progress bar that hands on what stands beside it, and shows nothing."""

    class Bar(tqdm):
        def set_postfix_str(self, line):
            says(line)

    return partial(Bar, disable=True)


@pytest.fixture(scope="module")
def table():
    lines = []
    bar = bar_that(lines.append)
    measured = indexes.compare_indexes(
        VECTORS, QUERIES, FEW, k=10, runs=2, n_single=20, progress=bar
    )
    assert len(lines) == 3 + len(measured) and lines[-1].startswith("annoy")
    return measured


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
    found_ids = indexes.find("annoy")().build(VECTORS, trees=5).query(QUERIES, 10, search_k=20)
    counted = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found_ids, truth)])
    # a forest built by several threads varies
    assert table.loc[3, "recall@10"] == pytest.approx(counted, abs=0.03)
    assert table.loc[3, "recall@10"] < table.loc[4, "recall@10"]


def test_tied_neighbours_count_for_either():
    vectors = np.repeat(VECTORS[:20], 8, axis=0)  # every vector eight times: any of them will do
    measured = indexes.compare_indexes(
        vectors, VECTORS[:5], [FEW[0], FEW[1]], k=4, runs=1, n_single=5
    )
    assert (measured["recall@4"] > 0.99).all()


@pytest.mark.parametrize(
    "wrong, message", [(3, "got 3 twice for query 1"), (1200, "got 1200"), (-7, "got -7")]
)
def test_duplicated_and_impossible_ids_are_refused(wrong, message):
    ids = np.tile(np.arange(5), (2, 1))
    ids[1, 0] = wrong
    with pytest.raises(ValueError, match=message):
        indexes.distances_of(VECTORS, QUERIES[:2], ids)


def test_what_was_not_found_is_missing_and_not_near():
    distances = indexes.distances_of(VECTORS, VECTORS[:1], np.array([[0, -1]]))
    assert distances[0, 0] == pytest.approx(0, abs=1e-6) and np.isnan(distances[0, 1])


def test_settings_are_refused_before_anything_is_built():
    for wrong, message in [
        (IndexSettings(name="faiss_hnws"), "Did you mean faiss_hnsw"),
        (IndexSettings(name="annoy", build={"tree": 5}), "Did you mean trees"),
        (IndexSettings(name="annoy", query={"serch_k": [5]}), "Did you mean search_k"),
    ]:
        lines = []
        with pytest.raises(ValueError, match=message):
            indexes.compare_indexes(
                VECTORS, QUERIES, [FEW[0], wrong], progress=bar_that(lines.append)
            )
        assert not lines


def test_a_missing_library_is_reported_and_the_comparison_goes_on(monkeypatch):
    absent = {"module": "no_such_library", "extra": "absent", "name": "absent"}
    monkeypatch.setitem(indexes.INDEXES, "absent", type("Absent", (indexes.find("exact"),), absent))
    measured = indexes.compare_indexes(
        VECTORS, QUERIES, [IndexSettings(name="absent"), FEW[0]], runs=1, n_single=2
    )
    assert 'pip install "imgsearch-utils[absent]"' in measured.loc[0, "problem"]
    assert measured.loc[1, "recall@10"] == 1 and measured.loc[1, "problem"] == ""
    assert indexes.recommend(measured, 0.9)["index"] == "exact"


def test_memory_is_that_of_a_process_that_loads_the_index(tmp_path):
    vectors = clustered(20_000, 256)
    measured = indexes.compare_indexes(vectors, vectors[:5], FEW[:1], k=3, runs=1, n_single=2)
    assert vectors.nbytes <= measured.loc[0, "memory_bytes"] < 2 * vectors.nbytes


def test_held_out_queries_are_not_in_the_gallery():
    gallery, queries = indexes.hold_out(100, 20, seed=3)
    assert sorted([*gallery, *queries]) == list(range(100)) and len(queries) == 20
    with pytest.raises(ValueError, match="n_queries must be 1 to 99"):
        indexes.hold_out(100, 100)


def test_a_stopped_comparison_goes_on_where_it_was(tmp_path):
    def compare(wanted, stop_after=99, vectors=VECTORS):
        lines = []

        def stop(line):
            lines.append(line)
            if len(lines) > stop_after:
                raise KeyboardInterrupt

        kept = {"folder": tmp_path, "progress": bar_that(stop)}
        return lines, indexes.compare_indexes(vectors, QUERIES, wanted, runs=1, n_single=5, **kept)

    with pytest.raises(KeyboardInterrupt):
        compare(FEW, stop_after=3)
    kept = {path: path.read_text() for path in tmp_path.iterdir()}
    assert len(kept) == 2
    lines, whole = compare(FEW)
    assert [path.read_text() for path in kept] == list(kept.values()) and len(whole) == 5
    lines, again = compare(FEW)
    assert not lines
    pd.testing.assert_frame_equal(again, whole)
    lines, more = compare([FEW[0], FEW[1].model_copy(update={"query": {"ef": [200, 400]}})])
    assert len(lines) == 2 and len(more) == 3  # one build, one point: ef 200 was known
    lines, _ = compare(FEW[:1], vectors=VECTORS[:900])
    assert lines  # other vectors are another comparison


def test_an_index_of_old_vectors_is_judged_by_the_new():
    index = indexes.find("exact")().build(VECTORS)
    assert indexes.recall_of(index, VECTORS, QUERIES, 10) == 1
    turned = normalised(VECTORS @ np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0])
    assert indexes.recall_of(index, turned, turned[:50], 10) < 0.3


def test_searches_among_a_part_are_measured_by_its_share():
    points = pd.DataFrame(
        {
            "index": ["exact", "faiss_ivf", "annoy"],
            "build": ["{}", '{"nlist": 20}', "{}"],
            "query": ["{}", '{"nprobe": 4}', "{}"],
        }
    )
    found = indexes.compare_filtered(VECTORS, QUERIES, points, k=10, shares=(1, 0.1, 0.02, 0.001))
    assert found["index"].unique().tolist() == ["exact", "faiss_ivf"]  # annoy cannot
    assert found.allowed.tolist() == [1200, 120, 24] * 2  # one vector is not enough
    assert (found["recall@10"][found["index"] == "exact"] == 1).all() and (found.ms > 0).all()
    lists = found[found["index"] == "faiss_ivf"].set_index("share")["recall@10"]
    # few of what is allowed lies in the lists that are read
    assert lists[1] > 0.9 > lists[0.02] > 0
