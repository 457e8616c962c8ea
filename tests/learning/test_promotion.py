"""The rule of promotion, and that every sentence about it says what it decides."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_utils.learning import promotion
from imgsearch_utils.learning.promotion import PRECISION, PROBABLY, SHOWN, Evidence, Gain
from imgsearch_utils.workspace import write_json
from tests import tiny_study

chances = st.one_of(st.floats(0, 1), st.just(np.nan))
looks = st.integers(1, 40)


def evidence(chance, look=1, by="lists", rival="the encoder") -> Evidence:
    ends = (np.nan, np.nan) if np.isnan(chance) else (-0.02, 0.12)
    return Evidence(by, 20, PRECISION, rival, 0.60, 0.65, *ends, chance, look)


@given(chances, looks, st.booleans())
def test_the_rule_is_what_its_words_say(chance, look, in_search):
    decision = promotion.decide(evidence(chance, look), in_search)
    better, worse = chance < PROBABLY, chance > 1 - PROBABLY
    assert decision.used == (better or in_search and not worse)
    assert (decision.answer in ("shown", "probable")) == better
    assert (decision.answer == "worse") == worse
    if decision.answer == "shown":
        assert chance < SHOWN


def test_all_looks_together_spend_no_more_than_the_error_that_is_told():
    spent = 0.0
    for look in range(1, 200):
        shown = [
            chance
            for chance in np.linspace(0, SHOWN, 2001)
            if promotion.decide(evidence(chance, look), False).answer == "shown"
        ]
        spent += max(shown)
    assert SHOWN / 2 < spent <= SHOWN


@given(chances, looks, st.booleans(), st.sampled_from(["lists", "pairs"]))
def test_the_sentences_agree_with_the_decision(chance, look, in_search, by):
    decision = promotion.decide(evidence(chance, look, by, "what the classes taught"), in_search)
    told, why = promotion.explain("whitened head", decision)
    assert told.startswith(f"Whitened head was chosen: {promotion.ANSWERS[decision.answer]}. ")
    uses_head = "Search uses what was learnt" in told or "goes on with what was learnt" in told
    assert uses_head == decision.used
    assert ("Search uses what the classes taught" in told) == (not decision.used)
    assert ("Too few" in why) == np.isnan(chance)
    if not np.isnan(chance):
        assert "0.650 with what was learnt and 0.600 with what the classes taught" in why
        assert ("so large a loss" in why) == (chance > 0.5)


@given(chances, looks, st.booleans())
def test_grades_that_change_when_asked_again_decide_nothing(chance, look, in_search):
    decision = promotion.decide(evidence(chance, look), in_search, steady=False)
    assert decision.answer == "unsteady" and not decision.used
    assert "Search uses the encoder: pairs that were asked twice" in promotion.tell_decision(
        decision
    )


@pytest.mark.parametrize(
    ("repeats", "steady"),
    [
        ((0, np.nan, np.nan), True),  # nothing was asked twice
        ((30, 1.0, np.nan), True),  # all of one grade
        ((9, 0.2, -0.1), True),  # too few
        ((10, 0.2, 0.29), False),
        ((10, 0.6, 0.31), True),
    ],
)
def test_grades_are_steady_where_nothing_says_otherwise(repeats, steady):
    assert promotion.are_steady(repeats) == steady


@pytest.mark.parametrize("promoted", [True, False])
def test_what_the_classes_gave_is_told_beside_what_the_grades_add(tmp_path, promoted):
    run = tiny_study.make(tmp_path, promoted=promoted)
    by_classes = promotion.decide(evidence(0.01, by="pairs"), False)
    told = {
        "promoted": promoted,
        "evidence": "classes",
        "decision": promotion.decision_to_dict(by_classes),
    }
    with tiny_study.living_in(tmp_path):
        write_json(run.round(0).results / "metrics.json", told)
        sentences = promotion.what_classes_gave(run)
    assert len(sentences) == promoted
    if promoted:
        assert "round 0 learnt from them alone" in sentences[0]
        assert promotion.tell_evidence(by_classes.evidence) in sentences[0]


@given(chances, looks, st.booleans())
def test_a_decision_is_read_as_it_was_written(chance, look, in_search):
    decision = promotion.decide(evidence(chance, look), in_search)
    kept = json.loads(json.dumps({"decision": promotion.decision_to_dict(decision)}))
    read = promotion.decision_of_metrics(kept)
    assert (read.answer, read.used) == (decision.answer, decision.used)
    np.testing.assert_equal(read.evidence._asdict(), decision.evidence._asdict())


@pytest.mark.parametrize("part", [{"answer": "shown"}, "shown", ["shown"]])
def test_a_part_of_a_decision_is_refused(part):
    with pytest.raises(ValueError, match="expected a decision with by, n, measure"):
        promotion.decision_of_metrics({"decision": part})


def test_a_round_of_an_older_version_has_no_decision():
    assert promotion.decision_of_metrics({"promoted": True}) is None
    assert "earlier version" in promotion.explain("head", None)[0]


@pytest.mark.parametrize("used", [True, False])
def test_the_table_marks_the_chosen_one_and_what_search_uses(used):
    table = pd.DataFrame({"candidate": ["encoder", "centred", "head"]})
    marked = promotion.mark_use(table, "head", used)
    assert marked.use.tolist() == (["", "", "search"] if used else ["search", "", "chosen"])
    assert promotion.chosen_row(marked).candidate == "head"


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [({}, "head"), ({"centred": 0.1}, "centred"), ({"centred": 0.1, "whitened": 0.2}, "whitened")],
)
def test_another_candidate_is_taken_only_where_it_is_above_the_first(gains, chosen):
    assert promotion.choose(gains, "head") == chosen


def test_gains_are_read_from_what_a_round_measured():
    measured = {
        "ap_gain_over": {"encoder": {"difference": 0.1, "low": None, "high": None}},
        "within_queries": {"nDCG@10": {"difference": 0.2, "low": 0.1, "high": 0.3}},
    }
    first, second = promotion.gains_of_metrics(json.loads(json.dumps({"dev": measured})))
    assert np.isnan(first.low) and not first.is_above and not first.is_below
    assert second == Gain("nDCG@10", 0.2, 0.1, 0.3) and second.is_above
    missing = promotion.gains_of_metrics({"dev": None})
    assert [gain.measure for gain in missing] == ["average precision", "nDCG@10"]
    assert all(np.isnan(gain[1:]).all() for gain in missing)
