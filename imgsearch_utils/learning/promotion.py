"""Which candidate is chosen and whether search uses it: the rule, and the sentences that tell it.

The rule stands here alone. The learner asks ``choose`` and ``is_promoted``; notebooks, report and
pages say ``RULE`` and the sentences below.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.workspace import Run

RULE = (
    "What was learnt replaces the encoder where the 95 % interval of its gain lies above 0, in "
    "average precision or in the order within a query's results (nDCG@10), and in neither below 0."
)
RULE_FOR_TAUGHT_RUNS = (
    "In a run that a person teaches, a head that search uses stays until one of the two intervals "
    "lies below 0."
)
RULE_FOR_COMPARISONS = (
    "What comparisons alone taught replaces the encoder where it agrees with more of the "
    "comparisons whose first picture it had not seen, and the 95 % interval of that gain lies "
    "above 0."
)
AGREEMENT = "agreement with comparisons"
#: columns of the table of candidates -> measures by name
MEASURES = {"ap": "average precision", "ndcg": "nDCG@10"}


class Gain(NamedTuple):
    """What a model gains over the encoder in one measure, with a 95 % interval; NaN where there is
    none.
    """

    measure: str
    difference: float
    low: float
    high: float

    @property
    def is_above(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    def __str__(self):
        return (
            f"{self.measure} {self.difference:+.3f}, 95 % interval {self.low:+.3f} to "
            f"{self.high:+.3f}"
        )


def choose(gains_over_first: dict[str, float], first: str) -> str:
    """The candidate to take: the first, or the best of those whose interval lies above it.

    gains_over_first : of candidates whose gain in average precision over the first has an interval
        above 0
    """
    return max(gains_over_first, key=gains_over_first.get, default=first)


def is_promoted(gains: Iterable[Gain], in_search: bool) -> bool:
    """Whether search uses what was learnt: ``RULE``, and ``RULE_FOR_TAUGHT_RUNS``.

    in_search : whether search uses a head already, as an earlier round showed that it is better
    """
    gains = list(gains)
    shown = in_search or any(gain.is_above for gain in gains)
    return shown and not any(gain.is_below for gain in gains)


def gains_of_row(row: pd.Series) -> list[Gain]:
    """The gains of a row of the table of candidates."""
    return [
        Gain(name, *(row[f"{column}_gain{end}"] for end in ("", "_low", "_high")))
        for column, name in MEASURES.items()
    ]


def gains_of_metrics(metrics: dict[str, Any], split: str = "dev") -> list[Gain]:
    """The gains that a round's metrics.json holds, on the pairs that decide (dev) or on test."""
    measured = metrics.get(split) or {}
    places = {"ap": ("ap_gain_over", "encoder"), "ndcg": ("within_queries", "nDCG@10")}
    gains = []
    for column, (kind, of) in places.items():
        values = measured.get(kind, {}).get(of, {})
        numbers = [values.get(name) for name in ("difference", "low", "high")]
        gains.append(Gain(MEASURES[column], *(np.nan if n is None else n for n in numbers)))
    return gains


def mark_use(candidates: pd.DataFrame, chosen: str, in_search: bool) -> pd.DataFrame:
    """The table of candidates with a column `use`: "search" for what search uses, "chosen" for a
    chosen candidate that it does not use.
    """
    row = candidates.set_index("candidate").loc[chosen]
    used = chosen if is_promoted(gains_of_row(row), in_search) else "encoder"
    use = candidates.candidate.map({chosen: "chosen"} | {used: "search"}).fillna("")
    return candidates.assign(use=use)


def chosen_row(candidates: pd.DataFrame) -> pd.Series:
    """The row of the candidate that was chosen; its `use` is "search" where it was promoted."""
    rows = candidates[candidates.use.isin(["chosen", "search"])]
    return rows[rows.candidate != "encoder"].iloc[0]


def _known(gains: Iterable[Gain]) -> list[Gain]:
    return [gain for gain in gains if np.isfinite(gain[1:]).all()]


def _listed(gains: Iterable[Gain]) -> str:
    return " and ".join(gain.measure for gain in gains)


def why_in_use(run: Run, used: str) -> str:
    """Why search uses this model, "encoder" or "head", in a sentence."""
    if not run.rounds_made:
        return "Search uses the encoder as it is: no round is finished yet."
    last = run.last_round
    taught = "the classes" if last.by_classes else "the grades"
    gains = _known(gains_of_metrics(last.metrics))
    if last.metrics["promoted"] and used == "encoder":
        return (
            f"Search uses the encoder: the head of round {last.number} is not here; run the "
            "study to make it again."
        )
    if not last.metrics["promoted"]:
        so_far = f" ({gains[0]})" if gains else ""
        return (
            f"Search uses the encoder: no gain of what {taught} taught has its 95 % interval "
            f"above 0 yet{so_far}. More grades decide."
        )
    if better := [gain for gain in gains if gain.is_above]:
        return (
            f"Search uses the head, taught by {taught}: on pairs whose pictures it had not seen "
            f"it is better than the encoder ({better[0]})."
        )
    if not gains:
        return f"Search uses the head, taught by {taught}: it was found better than the encoder."
    return (
        "Search keeps the head: an earlier round showed that it is better than the encoder, and "
        "no interval of the grades so far lies below 0."
    )


def use_after_the_round(candidates: pd.DataFrame) -> str:
    """What search will use when a round with these candidates is finished, and why."""
    chosen = chosen_row(candidates)
    better = [gain for gain in gains_of_row(chosen) if gain.is_above]
    if chosen.use == "search" and better:
        return (
            f"When the round is finished, search uses what was learnt: the 95 % interval of its "
            f"gain in {_listed(better)} over the encoder lies above 0, on pairs whose pictures "
            "it had not seen."
        )
    if chosen.use == "search":
        return (
            "When the round is finished, search goes on with a head, the one of this round: an "
            "earlier round showed that a head is better than the encoder, and no interval of "
            "these grades lies below 0."
        )
    return (
        "If the round were finished now, search would use the encoder: no interval of the gain "
        "over it, on pairs whose pictures it had not seen, lies above 0. More grades decide."
    )


def outcome(candidate: str, promoted: bool) -> str:
    """What was chosen, and what search uses, in a sentence."""
    return (
        f"{candidate[:1].upper()}{candidate[1:]} was chosen and is "
        f"{'promoted: search uses it' if promoted else 'not promoted: search uses the encoder'}."
    )


def explain(gains: Iterable[Gain], promoted: bool, taught: bool) -> list[str]:
    """Why a round's decision is what it is, by the gains on the pairs that decide: a sentence each.

    taught : whether a person teaches the run
    """
    gains = list(gains)
    better = [gain for gain in gains if gain.is_above]
    worse = [gain for gain in gains if gain.is_below]
    stays = promoted and taught and not better
    above = (
        f"The interval of {_listed(better)} lies above 0" if better else "No interval lies above 0"
    )
    below = f", that of {_listed(worse)} below" if worse else ""
    rules = [RULE, RULE_FOR_TAUGHT_RUNS] if taught else [RULE]
    sentences = [f"{above}{below}.", f"The rule: {' '.join(rules)}"]
    if stays and not worse:
        sentences.append(
            "An earlier round showed that a head is better than the encoder. These pairs leave "
            "it open, so search goes on with a head, the one of this round."
        )
    if promoted != is_promoted(gains, in_search=stays):
        sentences.append(
            "The round recorded another decision than this rule gives: see its metrics.json."
        )
    return sentences


def compared_with_test(promoted: bool, test: Gain) -> str:
    """What the test pairs' gain says beside the decision; empty where the two agree."""
    if not promoted and test.is_above:
        return (
            "So the gain on the test pairs and “not promoted” are no contradiction: the pairs "
            "that decide leave a doubt, and in doubt search keeps the encoder."
        )
    if promoted and not test.is_above:
        return (
            "So “promoted” stands although the interval of the test pairs reaches below 0: look "
            "at the examples, and grade more pairs to know."
        )
    return ""


def decided_by_comparisons(
    comparisons: int, encoder: float, head: float, gain: Gain, promoted: bool
) -> str:
    """Why search may use what comparisons alone taught, or why it keeps the encoder.

    encoder, head : shares of the held-out comparisons with which they agree
    """
    shares = (
        f"Of {comparisons:,} comparisons whose first picture it had not seen, what was learnt "
        f"agrees with {head:.0%}, the encoder with {encoder:.0%}"
    )
    kept = "a head, as one was shown to be better before" if promoted else "the encoder"
    if not np.isfinite([gain.low, gain.high]).all():
        return f"{shares}. They differ too seldom to tell which is better; search keeps {kept}."
    interval = (
        f"a gain of {gain.difference:+.1%}, 95 % interval {gain.low:+.1%} to {gain.high:+.1%}"
    )
    if promoted and gain.is_above:
        return f"{shares}: {interval}. It is better: search may use it."
    worse = "It is worse" if gain.is_below else "It is no better so far"
    return f"{shares}: {interval}. {worse}: search keeps {kept}."
