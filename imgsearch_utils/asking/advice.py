"""Whether more grades are worth asking for, in a sentence. It never stops anything."""

import numpy as np
from scipy.stats import norm

from imgsearch_utils.grades.pairs import LIST
from imgsearch_utils.learning.promotion import SHOWN, Decision

ENOUGH_TO_TELL = 240  # grades after which a notion that does not show is told of
# the share of two results in the order of their grades; chance gives .5
UPSIDE_DOWN = 0.35
FAR = 600  # more grades than that are no plan for one person
WHAT_TO_TRY = (
    "Try another encoder (notebook 13 compares them on the grades that are there), a rubric by "
    "which two people agree, or look at the pairs where people and model differ most (notebook 12)."
)


def grades_to_tell(decision: Decision) -> float:
    """About how many more grades it takes until "shown to be better" can be said, if the gain stays
    what it is; infinite for no gain, NaN where nothing is known yet.

    A mean's distance from 0, in standard errors, grows with the root of the number of lists, or of
    pairs.
    """
    by, n, *_, chance, look = decision.evidence
    if np.isnan(chance):
        return np.nan
    now, wanted = norm.isf(chance), norm.isf(SHOWN / ((look + 1) * (look + 2)))
    if now <= 0:
        return np.inf
    more = n * max(0.0, (wanted / now) ** 2 - 1)
    return float(more * (LIST if by == "lists" else 1))


def advise(decision: Decision, asked: int) -> str:
    """Go on, enough, or this notion does not take; in a sentence or two.

    asked : grades so far
    """
    return f"{_against_the_grain(decision.evidence)}{_advise(decision, asked)}"


def _against_the_grain(evidence):
    """A warning where grades say the opposite of what search used before them; else nothing."""
    if evidence.by != "lists" or not evidence.before < UPSIDE_DOWN:
        return ""
    return (
        f"Your grades go against {evidence.rival}: of two results with different grades it puts "
        f"the better one first in only {100 * evidence.before:.0f} % of cases. If you did not mean "
        "that, look at the rubric: 3 is very similar, 0 is different. "
    )


def _advise(decision, asked):
    more = grades_to_tell(decision)
    if decision.answer == "unsteady":
        return (
            "Pairs that were asked twice got other grades the second time, hardly closer than "
            "chance would give. No model can learn such grades. Write down what counts as similar "
            "(the rubric of the study), or grade fewer kinds of likeness, and go on."
        )
    if decision.answer == "shown":
        return (
            "Enough to be sure that what was learnt is better. More grades can still improve it; "
            "stop when the results please you."
        )
    if more <= FAR:
        about = max(10, int(np.ceil(more / 10) * 10))
        return f"Go on: at this rate about {about} more grades will show it."
    if asked < ENOUGH_TO_TELL and np.isnan(decision.evidence.learnt):
        return (
            "Nothing can be measured yet: of the pairs that may judge, none is very similar (grade "
            "3), or all are. Go on, and grade some of both."
        )
    if asked < ENOUGH_TO_TELL:
        return "Go on: it is too early to tell."
    if np.isnan(more):
        return (
            f"After {asked} grades nothing can be compared: a list tells something only where its "
            "results have different grades. Use the whole scale, from 0 (different) to 3 (very "
            "similar). If the results are all alike by what you mean, the model sees something "
            f"else. {WHAT_TO_TRY}"
        )
    return (
        f"After {asked} grades this notion does not take: what was learnt is hardly better than "
        f"{decision.evidence.rival}, or not at all. {WHAT_TO_TRY}"
    )
