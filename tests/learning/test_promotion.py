"""The rule of promotion, and that every sentence about it says what it decides."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_utils.learning import promotion
from imgsearch_utils.learning.promotion import Gain

ends = st.tuples(st.floats(-1, 1), st.floats(0, 1)).map(lambda end: (end[0], sum(end)))
intervals = st.one_of(ends, st.just((np.nan, np.nan)))


def gains_of(ap, ndcg) -> list[Gain]:
    return [
        Gain(name, sum(ends) / 2, *ends)
        for name, ends in zip(promotion.MEASURES.values(), (ap, ndcg))
    ]


@given(intervals, intervals, st.booleans())
def test_the_rule_is_what_its_words_say(ap, ndcg, in_search):
    above = any(low > 0 for low, _ in (ap, ndcg))
    below = any(high < 0 for _, high in (ap, ndcg))
    promoted = promotion.is_promoted(gains_of(ap, ndcg), in_search)
    assert promoted == ((above or in_search) and not below)
    if promoted and not in_search:
        assert above  # "where the 95 % interval of its gain lies above 0"


@given(intervals, intervals, st.booleans(), st.booleans())
def test_the_explanation_agrees_with_the_decision(ap, ndcg, promoted, taught):
    gains = gains_of(ap, ndcg)
    text = " ".join(promotion.explain(gains, promoted, taught))
    possible = {promotion.is_promoted(gains, in_search) for in_search in {False, taught}}
    assert ("another decision than this rule" in text) == (promoted not in possible)
    assert promotion.RULE in text
    assert (promotion.RULE_FOR_TAUGHT_RUNS in text) == taught


def table(ap, ndcg) -> pd.DataFrame:
    """Two candidates beside the encoder; the second one has these intervals."""
    rows = [{"candidate": name} for name in ("encoder", "centred", "head")]
    for column, (low, high) in (("ap", ap), ("ndcg", ndcg)):
        for row in rows:
            row |= {f"{column}_gain": 0.0, f"{column}_gain_low": np.nan}
            row |= {f"{column}_gain_high": np.nan}
        rows[2] |= {f"{column}_gain_low": low, f"{column}_gain_high": high}
    return pd.DataFrame(rows)


@given(intervals, intervals, st.booleans())
def test_the_table_marks_the_chosen_one_and_what_search_uses(ap, ndcg, in_search):
    marked = promotion.mark_use(table(ap, ndcg), "head", in_search)
    promoted = promotion.is_promoted(gains_of(ap, ndcg), in_search)
    assert marked.use.tolist() == (["", "", "search"] if promoted else ["search", "", "chosen"])
    assert promotion.chosen_row(marked).candidate == "head"
    words = promotion.use_after_the_round(marked)
    assert words.startswith("When the round is finished, search") == promoted
    assert ("earlier round" in words) == (promoted and not any(low > 0 for low, _ in (ap, ndcg)))


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
