"""How much memory an index takes: measured in a fresh process that loads and asks it.

    python -m imgsearch_utils.indexes.memory FILE

prints the bytes by which the process grew, its library being loaded before.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from imgsearch_utils.indexes.index_files import load
from imgsearch_utils.indexes.index_names import find


def resident_bytes(path: Path) -> int:
    """Bytes of memory that a saved index takes in a process that has loaded it and asked 100
    queries.
    """
    command = [sys.executable, "-m", "imgsearch_utils.indexes.memory", str(Path(path).resolve())]
    # importable in the child wherever this process stands
    package = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(command, capture_output=True, text=True, cwd=package)
    if done.returncode:
        raise RuntimeError(
            f"measuring the memory of {path} failed: {done.stderr.strip().splitlines()[-1]}"
        )
    return int(done.stdout.split()[-1])


def _grown(path: Path) -> int:
    about = json.loads(path.with_name(path.name + ".json").read_text())
    find(about["index"]).library()
    process = psutil.Process()
    before = process.memory_info().rss
    index = load(path)
    queries = np.random.default_rng(0).normal(size=(100, index.dim)).astype(np.float32)
    index.query(queries, min(10, index.count))
    return process.memory_info().rss - before


if __name__ == "__main__":
    print(_grown(Path(sys.argv[1])))
