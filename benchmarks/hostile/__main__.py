"""Parse, make the study, run the cases side by side, print the table."""

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.hostile import damage, inputs, kills, quota, servers, study, together  # noqa: F401  they register
from benchmarks.hostile.case import ATTACKS, Case
from benchmarks.hostile.commands import adopt_orphans, kill_tree

EVERY = 15.0  # seconds between two lines of progress
MARKS = "<!-- the benchmark writes from here -->", "<!-- to here -->"


@dataclass
class Running:
    """A case at work in a process of its own."""

    attack: str
    number: int
    pid: int
    began: float
    folder: Path


def begin(base: study.Base, seed: int, name: str, number: int, scratch: Path) -> Running:
    """Fork a process for one case; its verdict is written to ``verdict.json`` in its folder."""
    folder = scratch / f"{name}_{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return Running(name, number, pid, time.monotonic(), folder)
    try:
        os.setsid()
        adopt_orphans()
        case = Case(seed, name, number, base, folder)
        try:
            ATTACKS[name].run(case)
        except Exception:
            case.fall(f"the case itself broke: {traceback.format_exc()[-600:]}")
        (folder / "verdict.json").write_text(json.dumps({"falls": case.falls, "did": case.did}))
    finally:
        os._exit(0)


def finish(running: Running) -> dict:
    """Wait for a case that has ended, or end one that is too late: its verdict."""
    file = running.folder / "verdict.json"
    try:
        verdict = json.loads(file.read_text())
    except (OSError, ValueError):
        verdict = {
            "falls": [f"the case did not end in {ATTACKS[running.attack].limit:.0f} s, or died"],
            "did": [],
        }
    verdict |= {
        "attack": running.attack,
        "case": running.number,
        "seconds": time.monotonic() - running.began,
    }
    shutil.rmtree(running.folder, ignore_errors=True)
    return verdict


def attacked(base: study.Base, options, scratch: Path, say) -> list[dict]:
    """Run cases, attacks drawn by their shares, until the time is up: their verdicts."""
    rng, names = np.random.default_rng(options.seed), options.only or list(ATTACKS)
    share = np.array([ATTACKS[name].share for name in names])
    begun = dict.fromkeys(names, options.case or 0)
    began = said = time.monotonic()
    running, verdicts = [], []
    while True:
        in_time = time.monotonic() - began < options.minutes * 60
        if options.case is not None:
            in_time = not running + verdicts
        if in_time and len(running) < options.workers:
            name = str(rng.choice(names, p=share / share.sum()))
            running.append(begin(base, options.seed, name, begun[name], scratch))
            begun[name] += 1
            continue
        if not running:
            return verdicts
        for each in list(running):
            late = time.monotonic() - each.began > ATTACKS[each.attack].limit
            if late:
                kill_tree(each.pid)
            if os.waitpid(each.pid, 0 if late else os.WNOHANG)[0]:
                running.remove(each)
                verdicts.append(finish(each))
                for what in verdicts[-1]["falls"]:
                    say(f"fell: {each.attack} {each.number}: {' '.join(what.split())[:300]}")
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            fell = sum(bool(verdict["falls"]) for verdict in verdicts)
            say(f"{(said - began) / 60:.1f} min: {len(verdicts):,} cases, {fell} fell")
        time.sleep(0.005)


def table_of(verdicts: list[dict]) -> pd.DataFrame:
    """A row an attack: what it does, cases, fell, and the mean seconds of a case."""
    rows = []
    for name in dict.fromkeys(v["attack"] for v in verdicts):
        own = [v for v in verdicts if v["attack"] == name]
        rows.append(
            {
                "attack": name,
                "what": ATTACKS[name].what,
                "cases": len(own),
                "fell": sum(bool(v["falls"]) for v in own),
                "seconds a case": round(sum(v["seconds"] for v in own) / len(own), 1),
            }
        )
    return pd.DataFrame(rows).sort_values("attack", ignore_index=True)


def kinds_of_falls(verdicts: list[dict], seed: int) -> list[dict]:
    """The falls without their numbers, the most frequent first: what, how often, and how to replay
    the first one.
    """
    kinds: dict[str, dict] = {}
    for verdict in verdicts:
        for what in dict.fromkeys(verdict["falls"]):
            kind = f"{verdict['attack']}: {re.sub(r'[0-9]+|0x[0-9a-f]+', 'N', what)[:70]}"
            replay = (
                f"python -m benchmarks.hostile --seed {seed} --only {verdict['attack']} "
                f"--case {verdict['case']}"
            )
            first = kinds.setdefault(
                kind,
                {
                    "attack": verdict["attack"],
                    "what": what,
                    "times": 0,
                    "replay": replay,
                    "did": verdict["did"],
                },
            )
            first["times"] += 1
    return sorted(kinds.values(), key=lambda kind: -kind["times"])


def report_of(table: pd.DataFrame, falls: list[dict], seed: int, minutes: float) -> str:
    """The table and the falls as Markdown."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, seed {seed}, {minutes:.0f} "
        "minutes, "
        f"{table.cases.sum():,} cases.",
        "",
        "| attack | what it does | cases | fell | seconds a case |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.attack} | {row.what} | {row.cases:,} | {row.fell} | {row[5]} |"
        for row in table.itertuples()
    ]
    lines += ["", "Nothing fell." if not falls else "| fell | times | replay |\n|---|---|---|"]
    lines += [
        f"| {' '.join(fall['what'].replace('|', '/').split())[:160]} | {fall['times']} | "
        f"`{fall['replay']}` |"
        for fall in falls
    ]
    return "\n".join(lines)


def write_report(file: Path, text: str) -> None:
    """Put the text between the two marks of a Markdown file."""
    before, _, rest = file.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise SystemExit(f"{file}: expected the lines {MARKS[0]} and {MARKS[1]}")
    file.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[], help=f"of {', '.join(ATTACKS)}"
    )
    parser.add_argument("--case", type=int, help="replay this case alone; with one --only")
    parser.add_argument("--workers", type=int, default=2, help="cases side by side")
    parser.add_argument(
        "--base", type=Path, help="keep the finished tiny study here, or take the one that is here"
    )
    parser.add_argument(
        "--report", type=Path, help="a Markdown file to write the table into, between its two marks"
    )
    options = parser.parse_args(arguments)
    options.only = [ATTACKS.find(name) and name for name in options.only]
    if options.case is not None and len(options.only) != 1:
        parser.error("--case needs one --only NAME")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status."""
    options = parsed(arguments)
    with contextlib.suppress(RuntimeError):
        import torch

        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hostile_") as folder:

        def say(line):
            print(line, file=sys.stderr, flush=True)

        place = Path(options.base or Path(folder) / "base").resolve()
        home = place / "home"
        warm_up()
        if not (place / "made.json").is_file():
            say("making the tiny study ...")
            shutil.rmtree(home, ignore_errors=True)
            began = time.monotonic()
            study.make(home)
            (place / "made.json").write_text(json.dumps({"run": time.monotonic() - began}))
        base = study.prepare(home)
        base.seconds |= json.loads((place / "made.json").read_text())
        say(
            f"the study is there; {len(options.only or ATTACKS)} kinds of attack, "
            f"{options.workers} cases side by side"
        )
        began = time.monotonic()
        verdicts = attacked(base, options, Path(folder) / "cases", say)
    table, falls = table_of(verdicts), kinds_of_falls(verdicts, options.seed)
    minutes = (time.monotonic() - began) / 60
    if options.report:
        write_report(options.report, report_of(table, falls, options.seed, minutes))
    print(table.to_string(index=False))
    for fall in falls:
        print(f"\nFELL {fall['times']} x {fall['attack']}: {fall['what']}\n  {fall['replay']}")
        if options.case is not None:
            print("  " + "\n  ".join(fall["did"]))
    return int(bool(falls))


def warm_up() -> None:
    """Import what the commands import, and load their networks, so that a fork has them."""
    import matplotlib

    matplotlib.use("Agg")
    import papermill  # noqa: F401
    from PIL import Image

    from imgsearch_utils.encoders.encoder import one_thread
    from imgsearch_utils.encoders.encoder_names import shared_encoder
    from imgsearch_utils.search.ready_made_classes import shared_classifier
    from imgsearch_utils.study import ClassifierSettings

    gray = Image.new("RGB", (64, 64), "gray")
    with one_thread():
        shared_encoder("efficientnet_lite0").encode_images([gray])
        shared_classifier(ClassifierSettings()).classify([gray])
    Image.init()


if __name__ == "__main__":
    sys.exit(main())
