"""The hostile benchmark: each attack runs, a case can be replayed, and its judge sees faults that
are planted.
"""

import pytest

from benchmarks.hostile import __main__ as hostile
from benchmarks.hostile import study
from benchmarks.hostile.case import Case
from benchmarks.hostile.commands import Done


def test_a_case_derives_from_seed_attack_and_number(tmp_path):
    drawn = [
        Case(seed, name, number, study.Base(tmp_path), tmp_path)
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
    case = Case(0, "kill", 0, study.Base(tmp_path), tmp_path)
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
