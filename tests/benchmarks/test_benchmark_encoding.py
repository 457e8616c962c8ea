"""The benchmark of encoding runs, on few pictures, and says what it compared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_encoding_is_compared_with_the_bare_network_and_a_plain_loop():
    pytest.importorskip("onnxruntime", reason='needs pip install "imgsearch-utils[onnx]"')
    line = [
        sys.executable,
        "-m",
        "benchmarks.encoding",
        "--images=66",
        "--rounds=1",
        "--threads=1",
        "--json",
    ]
    quick = {key: value for key, value in os.environ.items() if key != "IMGSEARCH_DATA"}
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=quick, timeout=800
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["backend"] == "onnxruntime" and found["least_cosine_to_torch"] > 0.9999
    assert found["ratio_to_bare"] > 0 and found["ratio_to_torch"] > 0
    half = found["bfloat16"]
    assert "missing" in half or half["agrees"] == all(
        abs(pair["float32"] - pair["bfloat16"]) <= 0.01
        for pair in half.values()
        if isinstance(pair, dict)
    )
