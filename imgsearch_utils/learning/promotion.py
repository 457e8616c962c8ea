"""Which candidate is chosen and whether search uses it: the rule, and the sentences that tell it.

The rule stands here alone. The learner asks ``choose`` and ``decide``; notebooks, report and pages
say ``RULE`` and the sentences below.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.learning.model import class_round, head_left_out
from imgsearch_utils.workspace import Run

ENCODER = "the encoder"
PRECISION = "average precision"
RIGHT_ORDER = "the share of two results that stand in the order of their grades"
ORDER = "nDCG@10 within a query's graded pairs"
AGREEMENT = "agreement"
SHOWN = 0.05  # how often, in all looks together, "shown to be better" may be said where it is not
# odds of two to one; chosen by what it costs on other draws of the studies than are reported
PROBABLY = 1 / 3
# the weighted kappa of pairs that were asked twice below which grades decide nothing: the middle of
# what Landis & Koch (Biometrics 33, 1977) call fair; and how many pairs must have been asked twice.
# Set by judgement, not measured
STEADY, TWICE = 0.3, 10
ANSWERS = {
    "shown": "shown to be better",
    "probable": "probably better",
    "open": "no better so far",
    "worse": "probably worse",
    "unsteady": "not decided, as the grades changed when they were asked again",
}
RULE = (
    "What was learnt is compared with what search used before the grades: on lists that the two "
    "drafted in turns, before anything learnt from them, by how often of two results the one with "
    "the higher grade stands first; where there are no lists, on pairs that neither of them chose, "
    "in average precision and in the order within a query's pairs. Where "
    f"chance alone would give so large a gain in less than {100 * PROBABLY:.0f} of 100 cases, it "
    "is probably better; where chance would give so large a loss as seldom, it is probably worse. "
    f"It is shown to be better where the error of saying so stays below {100 * SHOWN:.0f} %, over "
    "all rounds together. Search uses what is better, goes back from what is worse, and else stays "
    "with what it uses. Grades that change when the same pair is asked again decide nothing: there "
    f"search stays with what it used before the grades (from {TWICE} pairs asked twice on, where "
    f"their weighted kappa is below {STEADY})."
)
#: columns of the table of candidates -> measures by name
MEASURES = {"ap": "average precision", "ndcg": "nDCG@10"}


class Evidence(NamedTuple):
    """How what was learnt compares with its rival.

    by : "lists" (the mean over them), "pairs" (over all of them) or "comparisons"
    n : how many
    measure : ``RIGHT_ORDER`` of lists, ``PRECISION`` (of grade 3) or ``ORDER`` of pairs, or
        ``AGREEMENT`` (the share of comparisons)
    rival : what it was compared with, in words
    before, learnt : the measure of the rival and of what was learnt
    low, high : 95 % interval of the difference; NaN where there are too few
    chance : how often as large a gain comes by chance where there is none; NaN as low and high
    look : how many times a decision has been made, with this one
    """

    by: str
    n: int
    measure: str
    rival: str
    before: float
    learnt: float
    low: float
    high: float
    chance: float
    look: int

    @property
    def difference(self) -> float:
        return self.learnt - self.before


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


class Decision(NamedTuple):
    """What a round decided.

    answer : a name of ``ANSWERS``
    used : whether search uses the round's head
    """

    answer: str
    used: bool
    evidence: Evidence


def choose(gains_over_first: dict[str, float], first: str) -> str:
    """The candidate to take: the first, or the best of those whose interval lies above it.

    gains_over_first : of candidates whose gain in average precision over the first has an interval
        above 0
    """
    return max(gains_over_first, key=gains_over_first.get, default=first)


def are_steady(repeats: tuple[int, float, float]) -> bool:
    """Whether grades of pairs that were asked twice (of ``grades.agreement.self_agreement``) agree
    well enough to decide something; few of them, or all of one grade, do not say otherwise.
    """
    pairs, _, kappa = repeats
    return pairs < TWICE or not kappa < STEADY


def decide(evidence: Evidence, in_search: bool, steady: bool = True) -> Decision:
    """Whether search uses what was learnt: ``RULE``.

    Each look spends a part of the error, ``SHOWN / (look (look + 1))``: over any number of looks
    these add up to ``SHOWN`` (alpha spending: Lan & DeMets, Biometrika 70, 1983).

    in_search : whether search uses a head that grades taught already
    steady : as of ``are_steady``
    """
    chance = evidence.chance
    if not steady:
        answer = "unsteady"
    elif chance < SHOWN / (evidence.look * (evidence.look + 1)):
        answer = "shown"
    elif chance < PROBABLY:
        answer = "probable"
    else:
        answer = "worse" if chance > 1 - PROBABLY else "open"
    used = answer in ("shown", "probable") or answer == "open" and in_search
    return Decision(answer, bool(used), evidence)


def decision_to_dict(decision: Decision) -> dict[str, Any]:
    """What metrics.json holds of a decision; None for what is not known."""
    values = {**decision.evidence._asdict(), "answer": decision.answer, "used": decision.used}
    return {name: None if pd.isna(value) else value for name, value in values.items()}


def decision_of_metrics(metrics: dict[str, Any]) -> Decision | None:
    """The decision that a round's metrics.json holds; None for a round of an older version.

    ValueError where it holds a part of one.
    """
    if not (values := metrics.get("decision")):
        return None
    if not isinstance(values, dict) or not {*Evidence._fields, "answer", "used"} <= values.keys():
        raise ValueError(
            f"metrics.json: expected a decision with {', '.join(Evidence._fields)}, answer and "
            f"used, got {values!r:.200}; restore the round's results from a copy"
        )
    values = {name: np.nan if value is None else value for name, value in values.items()}
    evidence = Evidence(*(values[name] for name in Evidence._fields))
    return Decision(values["answer"], values["used"], evidence)


def gains_of_row(row: pd.Series) -> list[Gain]:
    """The gains of a row of the table of candidates."""
    return [
        Gain(name, *(row[f"{column}_gain{end}"] for end in ("", "_low", "_high")))
        for column, name in MEASURES.items()
    ]


def gains_of_metrics(metrics: dict[str, Any], split: str = "dev") -> list[Gain]:
    """The gains over the encoder that a round's metrics.json holds, on dev or test pairs."""
    measured = metrics.get(split) or {}
    places = {"ap": ("ap_gain_over", "encoder"), "ndcg": ("within_queries", "nDCG@10")}
    gains = []
    for column, (kind, of) in places.items():
        values = measured.get(kind, {}).get(of, {})
        numbers = [values.get(name) for name in ("difference", "low", "high")]
        gains.append(Gain(MEASURES[column], *(np.nan if n is None else n for n in numbers)))
    return gains


def mark_use(candidates: pd.DataFrame, chosen: str, used: bool) -> pd.DataFrame:
    """The table of candidates with a column `use`: "search" for what search uses, "chosen" for a
    chosen candidate that it does not use.
    """
    in_search = chosen if used else "encoder"
    use = candidates.candidate.map({chosen: "chosen"} | {in_search: "search"}).fillna("")
    return candidates.assign(use=use)


def chosen_row(candidates: pd.DataFrame) -> pd.Series:
    """The row of the candidate that was chosen; its `use` is "search" where search uses it."""
    rows = candidates[candidates.use.isin(["chosen", "search"])]
    return rows[rows.candidate != "encoder"].iloc[0]


#: what was compared
_COMPARED = {
    "lists": "{} lists that the two drafted in turns",
    "pairs": "{} graded pairs that neither of the two chose",
    "comparisons": "{} comparisons whose first picture it had not seen",
}


def tell_evidence(evidence: Evidence) -> str:
    """What was compared, and how often chance does as much, in a sentence."""
    what = _COMPARED[evidence.by].format(f"{evidence.n:,}")
    if np.isnan(evidence.chance):
        return f"Too few answers can tell the two apart yet: {what}."
    word, chance = "gain", evidence.chance
    if chance > 0.5:
        word, chance = "loss", 1 - chance
    often = "less than 1" if chance < 0.01 else f"about {100 * chance:.0f}"
    return (
        f"On {what}, {evidence.measure} is {evidence.learnt:.3f} with what was learnt and "
        f"{evidence.before:.3f} with {evidence.rival} (difference {evidence.difference:+.3f}, 95 % "
        f"interval {evidence.low:+.3f} to {evidence.high:+.3f}). Chance alone gives so large a "
        f"{word} in {often} of 100 cases."
    )


def tell_decision(decision: Decision) -> str:
    """What search uses by a decision, in a sentence."""
    answer, used, evidence = decision
    if answer == "shown":
        return f"Search uses what was learnt: it is shown to be better than {evidence.rival}."
    if answer == "probable":
        return (
            f"Search uses what was learnt: it is probably better than {evidence.rival}. This is "
            "not sure yet; more grades will tell."
        )
    if answer == "unsteady":
        return (
            f"Search uses {evidence.rival}: pairs that were asked twice got other grades the "
            "second time, so these grades decide nothing yet."
        )
    if answer == "worse":
        return f"Search uses {evidence.rival}: what was learnt is probably worse."
    if used:
        return (
            "Search goes on with what was learnt: an earlier round found it better than "
            f"{evidence.rival}, and these grades do not say that it is worse."
        )
    return f"Search uses {evidence.rival}: what was learnt is no better so far."


def what_classes_gave(run: Run) -> list[str]:
    """What the classes alone taught, before anybody graded, and by what it was measured; nothing
    where search used no such head. What the grades gave beyond it is a later round's decision.
    """
    by_classes = class_round(run, run.most_rounds)
    decision = by_classes and decision_of_metrics(by_classes.metrics)
    if not decision:
        return []
    return [
        f"The classes came first: round {by_classes.number} learnt from them alone. "
        f"{tell_evidence(decision.evidence)} The grades are measured by what they add to it."
    ]


def why_in_use(run: Run, used: str) -> str:
    """Why search uses this model, "encoder" or "head", in a few sentences."""
    if not run.rounds_made:
        return "Search uses the encoder as it is: no round is finished yet."
    last = run.last_round
    if used == "encoder" and (left_out := head_left_out(run)):
        return f"Attention: {left_out}."
    decision = decision_of_metrics(last.metrics)
    taught = "the classes" if last.by_classes else "the grades"
    if decision is None:
        model = f"the head, taught by {taught}" if last.metrics["promoted"] else "the encoder"
        return f"Search uses {model}: round {last.number} decided so, by an earlier rule."
    sentences = [
        f"{tell_decision(decision)} It was learnt from {taught}.",
        tell_evidence(decision.evidence),
        *([] if last.by_classes else what_classes_gave(run)),
    ]
    return " ".join(sentences)


def explain(candidate: str, decision: Decision | None) -> list[str]:
    """What was chosen, what search uses, and why, a sentence each.

    decision : None of a round of an older version
    """
    name = f"{candidate[:1].upper()}{candidate[1:]}"
    if decision is None:
        return [
            f"{name} was chosen. An earlier version's rule decided; see the round's metrics.json."
        ]
    return [
        f"{name} was chosen: {ANSWERS[decision.answer]}. {tell_decision(decision)}",
        tell_evidence(decision.evidence),
    ]


def compared_with_test(promoted: bool, test: Gain) -> str:
    """What the test pairs' gain says beside the decision; empty where the two agree."""
    if not promoted and test.is_above:
        return (
            "The test pairs show a gain and search does not use it: the test pairs report and "
            "never decide."
        )
    if promoted and not test.is_above:
        return (
            "The interval of the test pairs reaches below 0: look at the examples, and grade more "
            "pairs to know."
        )
    return ""
