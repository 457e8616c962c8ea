"""The comparison on many vectors: tiny, it runs on an ann-benchmarks file and goes on where it
stopped.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks import ann_scale
from imgsearch_utils import indexes
from imgsearch_utils.metrics.geometry import normalised


def test_the_comparison_goes_on_where_it_stopped(tmp_path, capsys):
    pytest.importorskip("h5py")
    vectors = normalised(np.random.default_rng(0).normal(size=(420, 16)))
    indexes.write_hdf5(tmp_path / "tiny-angular.hdf5", vectors[:400], vectors[400:], k=10)
    command = [
        "--out",
        str(tmp_path / "out"),
        "--hdf5",
        str(tmp_path / "tiny-angular.hdf5"),
        "--indexes",
        "exact",
    ]
    ann_scale.main(command)
    exact = pd.read_csv(tmp_path / "out" / "indexes.csv")
    assert exact["recall@10"].tolist() == [1.0] and (exact.n == 400).all()
    ann_scale.main([*command, "faiss_hnsw"])
    both = pd.read_csv(tmp_path / "out" / "indexes.csv")
    assert set(both["index"]) == {"exact", "faiss_hnsw"}
    again = both[both["index"] == "exact"]
    # its times too: it was not measured again
    pd.testing.assert_frame_equal(again, exact, check_dtype=False)
    assert (tmp_path / "out" / "recall_and_speed.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    assert "exact search" in printed and "faiss_hnsw" in printed


def test_the_drawn_vectors_are_written_for_other_tools(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(
        ann_scale, "study_vectors", lambda study, n, dim: normalised(np.eye(n, dim) + 0.1)
    )
    ann_scale.main(
        [
            "--write-hdf5",
            str(tmp_path / "drawn.hdf5"),
            "--n",
            "120",
            "--dim",
            "16",
            "--queries",
            "5",
        ]
    )
    with h5py.File(tmp_path / "drawn.hdf5") as file:
        assert {name: values.shape for name, values in file.items()} == {
            "train": (120, 16),
            "test": (5, 16),
            "neighbors": (5, 100),
            "distances": (5, 100),
        }
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.hdf5"]  # and nothing was compared


def test_something_must_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        ann_scale.main([])
    assert "give --out FOLDER, --write-hdf5 FILE, or both" in capsys.readouterr().err


def test_an_index_below_the_recall_is_shown_at_its_best():
    table = pd.DataFrame(
        {"index": ["a", "a", "b"], "recall@10": [0.9, 0.99, 0.6], "single_qps": [9.0, 5.0, 7.0]}
    )
    assert ann_scale.fastest(table, 0.95)[["index", "recall@10"]].values.tolist() == [
        ["a", 0.99],
        ["b", 0.6],
    ]
