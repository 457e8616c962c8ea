"""How long a command takes from the key press to its answer, started anew each time, and how much
of it is imports.

    python -m benchmarks.startup [--study synthetic_houses] [--run RUN] [--runs 5] [--only NAME ...]
    [--json]

Needs a finished run (`make run`). Each command is started --runs times as a user starts it;
`seconds` is the fastest, `median` the middle one. `imports` is what one more start under `-X
importtime` spends in import statements, `share` that by its own wall time, and `torch` whether
torch was among them. All files were read before, so that the disk does not count. Run it on a quiet
machine."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from imgsearch_utils.images import open_collection
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.workspace import find_run


def commands(study: str, run_name: str, folder: Path) -> dict[str, list[str]]:
    """What is typed behind `imgsearch`, by its name here; `folder` takes the files that they read
    and write.
    """
    run = find_run(study, run_name)
    names = read_split(run).image.tolist()
    picture, pairs = open_collection(run).path(names[0]), folder / "pairs.csv"
    pd.DataFrame({"image1": names[:20], "image2": names[20:40]}).to_csv(pairs, index=False)
    about = ["--study", study, "--run", run.name]
    return {
        "help": ["--help"],
        "labels summary": ["labels", "summary", *about],
        "score": ["score", str(pairs), "--out", str(folder / "scored.csv"), *about],
        "search": ["search", str(picture), *about],
        "search --model encoder": ["search", str(picture), "--model", "encoder", *about],
        "classify": ["classify", str(picture), *about],
    }


def start(arguments: list[str], *options: str) -> tuple[float, str]:
    """Seconds of one start, and what it wrote to standard error; RuntimeError where it failed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *options, "-m", "imgsearch_utils.cli", *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(
            f"imgsearch {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}"
        )
    return seconds, done.stderr


def measure(arguments: list[str], runs: int) -> dict[str, float | bool]:
    """One command's row; the first start, under ``-X importtime``, warms the disk's cache."""
    start(arguments)
    wall, report = start(arguments, "-X", "importtime")
    rows = [
        line.removeprefix("import time:").split("|")
        for line in report.splitlines()
        if "import time:" in line
    ]
    imports = {name.strip(): int(own) / 1e6 for own, _, name in rows if own.strip().isdigit()}
    seconds = [start(arguments)[0] for _ in range(runs)]
    return {
        "seconds": min(seconds),
        "median": statistics.median(seconds),
        "imports": sum(imports.values()),
        "share": sum(imports.values()) / wall,
        "torch": "torch" in imports,
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="synthetic_houses")
    parser.add_argument("--run", default="")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="of the commands, by the names that are printed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            name: measure(typed, given.runs)
            for name, typed in commands(given.study, given.run, Path(folder)).items()
            if name in (given.only or [name])
        }
    table = pd.DataFrame.from_dict(measured, orient="index").round(2)
    print(json.dumps(measured) if given.json else table.to_string())


if __name__ == "__main__":
    main()
