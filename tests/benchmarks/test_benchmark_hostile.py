"""The hostile benchmark: each attack runs, a case can be replayed, and its judge sees faults that
are planted.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.hostile import __main__ as hostile
from benchmarks.hostile import study
from benchmarks.hostile.case import ATTACKS, Case
from benchmarks.hostile.commands import REPOSITORY, Done
from tests import tiny_study

PLANTED = """
import os, subprocess, sys

from benchmarks.hostile.__main__ import main
from benchmarks.hostile.case import ASKED, attack
from benchmarks.hostile.commands import Disturbance
from benchmarks.hostile.study import JOURNAL


@attack("planted_doubled", share=0.1)
def doubled(case):
    "A line of the journal stands twice."
    file = case.copy() / JOURNAL
    file.write_bytes(file.read_bytes() + file.read_bytes().splitlines(keepends=True)[-1])
    case.all_is_well()


@attack("planted_orphan", share=0.1)
def orphan(case):
    "A process outlives its command."
    subprocess.run([sys.executable, "-c", "import os, time; os.fork() or time.sleep(60)"])
    case.orphans("planted_orphan")


@attack("planted_wrong", share=0.1)
def wrong(case):
    "An answer is about another picture than the one that was asked."
    case.copy()
    (case.home / "query_0.png").write_bytes((case.home / "query_1.png").read_bytes())
    case.ask("search", must=True)


@attack("planted_file", share=0.1)
def file(case):
    "A temporary file stays."
    case.copy()
    case.ask("summary", must=True)
    (case.folder / "own" / "tmp" / "left").write_text("x")
    case.temporary_files("planted_file")


@attack("planted_break", share=0.1)
def breaks(case):
    "The attack itself is broken."
    raise KeyError("planted")


@attack("planted_sound", share=0.1)
def sound(case):
    "Nothing is wrong, and a command that is killed says so by its status."
    case.copy()
    done = case.run(*ASKED["export"], disturbed=Disturbance(signal=9, event=1))
    assert done.status == -9, done
    case.all_is_well()


sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The benchmark's folder with a study that is there already."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "home").mkdir()
    tiny_study.make(folder / "home")
    images = pd.read_csv(folder / "home/active_learning_labels/tiny/images.csv").image
    pairs = pd.DataFrame(
        {
            "image1": images[:8],
            "image2": images[1:9].to_numpy(),
            "similarity": np.nan,
            "automatic": False,
            "strategy": "random",
            "side": "train",
        }
    )
    for place in ("active_learning_labels/tiny/round_00", "active_learning_results/tiny/tagging"):
        (folder / "home" / place).mkdir(parents=True, exist_ok=True)
    pairs.to_csv(folder / "home/active_learning_labels/tiny/round_00/pairs.csv", index=False)
    (folder / "made.json").write_text('{"run": 0}')
    (folder / "planted.py").write_text(PLANTED)
    return folder


@pytest.fixture(scope="module")
def ran(place) -> tuple[int, dict]:
    """Exit status and JSON of a run with one case of each attack, the planted ones among them."""
    line = [
        sys.executable,
        str(place / "planted.py"),
        "--base",
        str(place),
        "--cases",
        "1",
        "--minutes",
        "2",
        "--json",
        "--out",
        str(place / "out"),
        "--report",
        str(place / "report.md"),
        "--seed",
        "5",
    ]
    (place / "report.md").write_text("before\n" + "\n".join(hostile.MARKS) + "\nafter\n")
    process = subprocess.run(
        line, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    assert process.returncode in (0, 1), process.stderr
    return process.returncode, json.loads(process.stdout)


def test_every_attack_ran_and_none_is_broken(ran):
    _, found = ran
    cases = {row["attack"]: row["cases"] + row["skipped"] for row in found["attacks"]}
    assert set(ATTACKS) <= set(cases) and min(cases.values()) >= 1
    broken = [
        fall
        for fall in found["falls"]
        if "planted" not in fall["attack"]
        and ("the case itself broke" in fall["what"] or "did not end in" in fall["what"])
    ]
    assert not broken


def test_the_judge_sees_what_was_planted(ran):
    status, found = ran
    fell = {fall["attack"]: fall["what"] for fall in found["falls"] if "planted" in fall["attack"]}
    assert status == 1
    assert {
        name: part
        for name, part in (
            ("planted_doubled", "the journal has 1 new acts"),
            ("planted_orphan", "a process left behind"),
            ("planted_wrong", "wrong result with exit 0: search"),
            ("planted_file", "temporary files left behind"),
            ("planted_break", "the case itself broke"),
        )
        if part not in fell.pop(name, "")
    } == {}
    assert not fell, "planted_sound has nothing wrong"


def test_the_report_says_how_to_replay_what_fell_and_keeps_what_stands_around_it(ran, place):
    text = (place / "report.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "| planted_wrong |" in text and "--seed 5 --only planted_wrong --case 0`" in text
    verdicts = json.loads((place / "out" / "verdicts.json").read_text())
    assert {verdict["attack"] for verdict in verdicts} == {
        row["attack"] for row in ran[1]["attacks"]
    }


def test_a_case_derives_from_seed_attack_and_number(tmp_path):
    drawn = [
        Case(seed, name, number, study.Base(tmp_path, False), tmp_path)
        .rng.integers(10**9, size=3)
        .tolist()
        for seed, name, number in (
            (1, "kill", 2),
            (1, "kill", 2),
            (1, "kill", 3),
            (1, "csv", 2),
            (2, "kill", 2),
        )
    ]
    assert drawn[0] == drawn[1] and len({tuple(each) for each in drawn}) == 4


@pytest.mark.parametrize(
    ("status", "err", "fell"),
    [
        (0, "", ""),
        (1, "imgsearch: no such file", ""),
        (-9, "", "ended with status -9"),
        (1, "Traceback (most recent call last)\n ...\nKeyError: 'a'", "traceback"),
        (1, "", "without one clear line"),
        (1, "imgsearch: first\nsecond", "without one clear line"),
        (-11, "", "status -11"),
    ],
)
def test_how_a_command_may_end(tmp_path, status, err, fell):
    case = Case(0, "kill", 0, study.Base(tmp_path, False), tmp_path)
    case.judge(Done("imgsearch x", status, "", err, 1.0, 100.0))
    assert (fell in case.falls[0]) if fell else not case.falls
    case.falls.clear()
    case.judge(Done("imgsearch x", 0, "", "", 1.0, 10_000.0))
    assert "10000 MB" in case.falls[0]


@pytest.mark.parametrize(
    ("name", "out", "differs"),
    [
        ("search", '{"queries": [{"results": [{"image": "a", "score": 0.50001}]}]}', False),
        ("search", '{"queries": [{"results": [{"image": "b", "score": 0.5}]}]}', True),
        ("search", '{"queries": [{"results": [{"image": "a", "score": 0.6}]}]}', True),
        ("search", '{"queries": [{"results": []}]}', True),
        ("search", "cut off {", True),
        ("score", "a,b\n1,2\n", False),
        ("score", "a,b\n1,2", True),
    ],
)
def test_an_answer_is_the_undisturbed_one_or_wrong(tmp_path, name, out, differs):
    base = study.Base(
        tmp_path,
        False,
        {
            "search": '{"queries": [{"results": [{"image": "a", "score": 0.5}]}]}',
            "score": "a,b\n1,2\n",
        },
    )
    assert bool(study.answer_is_wrong(base, name, out)) == differs


def test_what_cannot_be_replayed_is_refused(capsys):
    with pytest.raises(ValueError, match="no attack is called demage. Did you mean damage?"):
        hostile.parsed(["--only", "demage"])
    with pytest.raises(SystemExit):
        hostile.parsed(["--case", "3"])
    assert "--case needs one --only NAME" in capsys.readouterr().err
