"""The cost of each step is measured once, in a process of its own, and what the steps find is
right.
"""

import numpy as np
import pandas as pd

from benchmarks import million


def test_steps_are_measured_once_and_grow(tmp_path, capsys):
    for n in (400, 900):
        million.lay_out(
            tmp_path / f"{n}_16",
            np.random.default_rng(0).normal(size=(n + 1300, 16)).astype(np.float32),
        )
    command = [
        "--n",
        "400",
        "900",
        "--dim",
        "16",
        "--home",
        str(tmp_path),
        "--out",
        str(tmp_path),
        "--steps",
    ]
    million.main([*command, "store", "open"])
    command[command.index("400")] = "900"
    million.main([*command, "open", "keep", "from disk", "duplicates", "score", "import"])
    table = pd.read_csv(tmp_path / "million.csv")
    once = dict.fromkeys(("keep", "from disk", "duplicates", "score", "import"), [900])
    assert table.groupby("step").n.apply(list).to_dict() == {
        "store": [400, 900],
        "open": [400, 900],
        **once,
    }
    assert (table.seconds > 0).all() and table.peak_mb.between(20, 3000).all()
    by_step = table[table.n == 900].set_index("step")
    assert by_step.recall["from disk"] >= 0.9 and by_step.recall["duplicates"] == 1
    assert (
        by_step.about["duplicates"].startswith("9 pairs")
        and by_step.disk_mb["store"] > 900 * 16 * 4 / 1e6
    )
    assert by_step.disk_mb[["score", "import"]].min() > 20 * 900 * 24 / 1e6
    assert set(pd.read_csv(tmp_path / "million_slopes.csv").step) == set(by_step.index)
    assert "from disk" in capsys.readouterr().out
