"""The comparison on many vectors: tiny, it runs on an ann-benchmarks file and goes on where it
stopped.
"""

import pandas as pd
import pytest

from benchmarks import ann_scale


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
