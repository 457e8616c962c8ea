"""The report's sentences: each judgement follows from the numbers, and what is not there is not
spoken of.
"""

import re

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.learning import promotion
from imgsearch_utils.learning.promotion import Evidence
from imgsearch_utils.metrics import Ceiling
from imgsearch_utils.steps import findings
from imgsearch_utils.steps.run_results import RunResults
from imgsearch_utils.study import parse_study
from imgsearch_utils.workspace import Run, write_atomic, write_json

SCORED = pd.DataFrame(
    {
        "side": ["dev"] * 4 + ["test"] * 4,
        "similarity": [3.0, 0, 0, 1] * 2,
        "p_similar": [0.5] * 4 + [0.0] * 3 + [1.0],
    }
)
SURE, OPEN, WORSE, FEW = (
    (0.1, 0.02, 0.18),
    (0.1, -0.02, 0.22),
    (-0.1, -0.2, -0.01),
    (0.1, None, None),
)


def split(ap, order=OPEN, head=0.5):
    numbers = {"ap": head, "f1": 0.4, "ece": 0.02, "roc_auc": 0.8, "n": 1200, "n_similar": 60}
    gains = [dict(zip(("difference", "low", "high"), gain)) for gain in (ap, order)]
    return {
        "encoder": numbers | {"ap": 0.4, "roc_auc": 0.7},
        "head": numbers,
        "trivial": {},
        "ap_gain_over": {"encoder": gains[0]},
        "within_queries": {"nDCG@10": gains[1]},
    }


def decided(chance=0.01, in_search=False, **more):
    """A decision as metrics.json holds it."""
    about = {
        "by": "lists",
        "n": 20,
        "measure": "average precision",
        "rival": "the encoder",
        "before": 0.6,
        "learnt": 0.65,
    }
    about |= {"low": -0.02, "high": 0.12, "chance": chance, "look": 1} | more
    return promotion.decision_to_dict(promotion.decide(Evidence(**about), in_search))


def made(home, decision=None, log=None, oracle="hierarchy", evidence="grades", **splits):
    run = Run(
        "tiny", parse_study({"study": "tiny", "images": {"source": "trees"}, "oracle": oracle})
    )
    write_atomic(run.labels / "images.csv", "image,group,side\na,0,train\nb,1,test\n")
    write_json(
        run.results / "ann_comparison" / "index.json",
        {"index": "exact", "reason": "exact search: it is quick"},
    )
    decision = decision or decided()
    metrics = {
        "promoted": decision["used"],
        "decision": decision,
        "candidate": "head, pull 0.3",
        "evidence": evidence,
        "labels": {"labels": 1920, "asked": 480, "similar": 100},
    }
    found = RunResults(
        run, pd.DataFrame() if log is None else log, metrics | splits if splits else {}
    )
    vars(found)["scored"] = SCORED  # as if read from the last round's folder
    return found


def test_more_than_chance_on_test_and_not_promoted_are_both_explained(home):
    found = made(home, decided(0.4), dev=split(OPEN), test=split(SURE))
    assert (
        "+0.100 [+0.020, +0.180], more than chance explains. Search does not use it."
        in findings.result(found)
    )
    said = " ".join(findings.decision(found))
    assert "was chosen: no better so far. Search uses the encoder" in said
    assert "(1,200 pairs, 60 of them of grade 3)" in said
    assert "They only report" in said and "report and never decide" in said


@pytest.mark.parametrize(
    ("chance", "in_search", "expected"),
    [
        (0.001, False, "it is shown to be better than the encoder"),
        (0.1, False, "it is probably better than the encoder"),
        (0.5, False, "Search uses the encoder: what was learnt is no better so far"),
        (0.5, True, "Search goes on with what was learnt"),
        (0.9, True, "Search uses the encoder: what was learnt is probably worse"),
        (np.nan, False, "Too few answers can tell the two apart yet: 20 lists"),
    ],
)
def test_the_reason_is_that_of_the_rule(home, chance, in_search, expected):
    said = " ".join(findings.decision(made(home, decided(chance, in_search), dev=split(OPEN))))
    assert expected in said and promotion.RULE in said and "nan" not in said


def test_a_round_of_an_older_version_is_told_as_what_it_is(home):
    found = made(home, dev=split(OPEN))
    del found.metrics["decision"]
    assert "An earlier version's rule decided" in " ".join(findings.decision(found))


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (SURE, "more than chance"),
        (OPEN, "no more than chance"),
        (WORSE, "a loss"),
        (FEW, "too few similar pairs"),
        ((None, None, None), "too few similar pairs"),
    ],
)
def test_a_verdict_follows_the_interval(gain, expected):
    gain = tuple(np.nan if value is None else value for value in gain)
    assert expected in findings.verdict(gain)
    assert "nan" not in findings.interval(gain)


def test_promoted_and_unconfirmed_is_said_too(home):
    said = " ".join(findings.decision(made(home, dev=split(SURE), test=split(OPEN))))
    assert "The interval of the test pairs reaches below 0" in said and "never decide" not in said


def test_without_test_grades_dev_is_named_as_what_it_is(home):
    found = made(home, dev=split(SURE))
    assert "on the pairs that decide, as no test pair has a grade" in findings.result(found)
    assert "nothing independent confirms this" in findings.decision(found)[-1]
    assert "On the dev pairs" in " ".join(findings.findings(found, Ceiling(np.nan, 0)))


def test_how_far_a_perfect_model_is_off_by_chance_is_told_of_the_same_pairs(home):
    numbers = {"dev": split(SURE)}, {"dev": split(SURE), "test": split(SURE)}
    dev, test = (
        " ".join(findings.findings(made(home, **splits), Ceiling(np.nan, 0))) for splits in numbers
    )
    told = re.compile(
        r"off by 0.020 on average, where a perfect one is off by ([\d.]+) on as many pairs"
    )
    assert float(told.search(dev)[1]) == pytest.approx(3 / 16, abs=0.02)  # of four fair coins
    assert float(told.search(test)[1]) == 0  # of probabilities that are 0 or 1


def test_what_classes_say_is_not_called_a_grade(home):
    found = made(home, dev=split(SURE), evidence="classes")
    said = [
        findings.result(found),
        *findings.decision(found),
        *findings.findings(found, Ceiling(np.nan, 0)),
    ]
    assert "pairs of the same class" in said[0] and "grade 3" not in " ".join(said)
    assert "from the classes alone" in " ".join(said)


def test_a_run_without_a_round_says_so_and_nothing_of_a_head(home):
    found = made(home)
    assert findings.result(found).startswith("Nothing was taught in this run")
    assert findings.decision(found) == [] and "no round" in findings.missing(found, True)["rounds"]
    assert findings.findings(found, Ceiling(np.nan, 0)) == [
        "Recommended index: exact. Exact search: it is quick."
    ]
    assert set(findings.meanings(found)) == {"class_counts", "recall_and_speed"}


@pytest.mark.parametrize(
    ("similar", "told"),
    [
        (0, "none of them is very similar (grade 3). Grade some that are very similar."),
        (1200, "all of them are very similar (grade 3). Grade some that are different."),
    ],
)
def test_an_undefined_quality_is_no_number(home, similar, told):
    nothing = split((None,) * 3, (None,) * 3, head=None)
    for model in ("encoder", "head"):
        nothing[model] |= dict.fromkeys(("f1", "ece", "roc_auc")) | {"n_similar": similar}
    found = made(home, decided(np.nan), dev=nothing)
    said = [
        findings.result(found),
        *findings.decision(found),
        *findings.findings(found, Ceiling(np.nan, 0)),
    ]
    assert told in said[0] and "nan" not in " ".join(said) and "not defined" in " ".join(said)


def test_the_course_of_the_rounds_is_told_by_its_ends(home):
    log = pd.DataFrame(
        {
            "labels": [480, 960],
            "dev_head_ap": [0.4, 0.5],
            "test_head_ap": np.nan,
            "dev_ap_gain": [0.05, 0.1],
            "dev_ap_gain_low": [np.nan, 0.02],
            "dev_ap_gain_high": 0.18,
        }
    )
    found = made(home, log=log)
    assert found.logged("dev") and not found.logged("test")
    said = findings.meanings(found)
    assert (
        said["rounds_dev"]
        == (
            "With 960 graded pairs the gain in average precision is +0.100 [+0.020, +0.180], "
            "more than chance explains; with 480 it was +0.050."
        )
        and "rounds_test" not in said
    )


def test_half_of_the_similar_pairs_are_found_as_a_loop_finds_them():
    similar, score = (
        pd.Series([1, 0, 1, 0, 1, 1], dtype=bool),
        pd.Series([0.9, 0.8, 0.7, 0.6, 0.5, 0.1]),
    )
    assert findings._precision_at_half(similar, score) == pytest.approx(2 / 3)
