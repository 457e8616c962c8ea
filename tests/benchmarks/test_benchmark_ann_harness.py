"""The harness against bare loops: tiny, it compares every library; the full run is the judge of
speed.
"""

import json
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_gives_a_ratio_and_equal_recall_for_each_library():
    command = [
        sys.executable,
        "-m",
        "benchmarks.ann_harness",
        "--json",
        "--n",
        "1000",
        "--dim",
        "16",
    ]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*command, "--queries", "200", "--pairs", "7"], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert set(measured) == {"faiss_hnsw", "hnswlib", "annoy"}
    for library in measured.values():
        if "problem" not in library:
            assert library["recall"] == library["bare_recall"] > 0.9 and library["pairs"] >= 7
            assert library["ratio"] > 0  # the full run is the judge
