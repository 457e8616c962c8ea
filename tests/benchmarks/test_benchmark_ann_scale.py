"""The comparison on many vectors: tiny, it runs on an ann-benchmarks file and goes on where it stopped."""

import numpy as np
import pandas as pd

from benchmarks import ann_scale
from imgsearch_utils import neighbours
from imgsearch_utils.geometry import normalised


def test_the_comparison_goes_on_where_it_stopped(tmp_path, capsys):
    vectors = normalised(np.random.default_rng(0).normal(size=(420, 16)))
    neighbours.write_hdf5(tmp_path / "tiny-angular.hdf5", vectors[:400], vectors[400:], k=10)
    command = ["--out", str(tmp_path / "out"), "--hdf5", str(tmp_path / "tiny-angular.hdf5"), "--indexes", "exact"]
    ann_scale.main(command)
    exact = pd.read_csv(tmp_path / "out" / "indexes.csv")
    assert exact["recall@10"].tolist() == [1.0] and (exact.n == 400).all()
    ann_scale.main([*command, "faiss_hnsw"])
    both = pd.read_csv(tmp_path / "out" / "indexes.csv")
    assert set(both["index"]) == {"exact", "faiss_hnsw"}
    again = both[both["index"] == "exact"]
    pd.testing.assert_frame_equal(again, exact, check_dtype=False)  # its times too: it was not measured again
    assert (tmp_path / "out" / "recall_and_speed.png").stat().st_size > 5000
    said = capsys.readouterr().out
    assert "exact search" in said and "faiss_hnsw" in said


def test_an_index_below_the_recall_is_shown_at_its_best():
    table = pd.DataFrame({"index": ["a", "a", "b"], "recall@10": [0.9, 0.99, 0.6], "single_qps": [9.0, 5.0, 7.0]})
    assert ann_scale.fastest(table, 0.95)[["index", "recall@10"]].values.tolist() == [["a", 0.99], ["b", 0.6]]
