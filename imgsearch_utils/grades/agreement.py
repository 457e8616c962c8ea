"""How far annotators agree, with each other and with themselves, and which pairs need an
adjudicator.
"""

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.grades.journal import ADJUDICATION, AUTOMATIC, REPEAT, Journal
from imgsearch_utils.grades.oracles import people_pairs
from imgsearch_utils.grades.pairs import GRADES, lower_median, merge
from imgsearch_utils.workspace import Run

if TYPE_CHECKING:
    from imgsearch_utils.metrics import (
        Ceiling,
    )  # and scikit-learn with it, a second which counting grades saves


class Agreement(NamedTuple):
    """alpha: Krippendorff's, ordinal, over all annotators; NaN where no pair was graded twice or
    all grades are one.

    kappa : annotator1, annotator2, pairs, same (share of equal grades), kappa (quadratic weights)
    queue : image1, image2, grades ("ann 1, bob 3"), spread, unsure: what an adjudicator should see,
    widest first"""

    alpha: float
    kappa: pd.DataFrame
    queue: pd.DataFrame


def weighted_kappa(first: list[int], second: list[int]) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968); NaN where it is undefined: no pairs, or
    one grade only.
    """
    if len({*first, *second}) < 2:
        return np.nan
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second, labels=list(GRADES), weights="quadratic"))


def graded_twice(journal: Journal) -> tuple[list[int], list[int]]:
    """The first two gradings by people, of each pair that has two: by two annotators, or by one who
    was asked again.
    """
    grades = {}
    for act in journal.standing():
        if act.act == "grade" and act.source not in (AUTOMATIC, ADJUDICATION):
            grades.setdefault((act.image1, act.image2), []).append(act.grade)
    twice = [grades_of_pair[:2] for grades_of_pair in grades.values() if len(grades_of_pair) > 1]
    return [one for one, _ in twice], [two for _, two in twice]


def human_ceiling(run: Run) -> "Ceiling":
    """Between the first two gradings of the pairs that people graded twice, in the label files of a
    replay too.
    """
    from imgsearch_utils.metrics import grading_ceiling

    if run.study.oracle != "replay":
        return grading_ceiling(*graded_twice(Journal(run.journal)))
    grades = [
        list(map(float, text.split()[:2])) for text in merge(people_pairs(run)).recurring.grades
    ]
    twice = [pair for pair in grades if len(pair) == 2]
    return grading_ceiling([one for one, _ in twice], [two for _, two in twice])


def agreement(journal: Journal) -> Agreement:
    """Compare the annotators' last grades; automatic zeros and adjudications are nobody's opinion.

    Krippendorff (2011), Computing Krippendorff's alpha-reliability, ordinal metric.
    """
    votes = {
        pair: {name: act for name, act in acts.items() if act.source != AUTOMATIC}
        for pair, acts in journal.votes().items()
    }
    grades = pd.DataFrame(
        {
            pair: {name: act.grade for name, act in acts.items() if act.source != ADJUDICATION}
            for pair, acts in votes.items()
        },
        dtype=float,
    ).sort_index()
    rows = []
    for one, two in itertools.combinations(grades.index, 2):
        both = grades.loc[[one, two]].dropna(axis=1).to_numpy(int)
        if both.shape[1]:
            rows.append(
                (
                    one,
                    two,
                    both.shape[1],
                    (both[0] == both[1]).mean(),
                    weighted_kappa(*both.tolist()),
                )
            )
    kappa = pd.DataFrame(rows, columns=["annotator1", "annotator2", "pairs", "same", "kappa"])
    return Agreement(_alpha(grades.to_numpy()), kappa, _queue(votes))


def _alpha(grades: np.ndarray) -> float:
    shared = grades[:, (~np.isnan(grades)).sum(0) > 1] if grades.size else grades
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return np.nan
    import krippendorff

    return float(
        krippendorff.alpha(shared, level_of_measurement="ordinal", value_domain=list(GRADES))
    )


def _queue(votes) -> pd.DataFrame:
    rows = []
    for (one, two), acts in votes.items():
        if any(act.source == ADJUDICATION for act in acts.values()):
            continue
        pair_grades = [act.grade for act in acts.values() if act.act == "grade"]
        spread, unsure = (
            max(pair_grades, default=0) - min(pair_grades, default=0),
            len(acts) - len(pair_grades),
        )
        if spread or unsure:
            said_by = ", ".join(
                f"{name} {act.grade if act.act == 'grade' else 'unsure'}"
                for name, act in acts.items()
            )
            rows.append((one, two, said_by, spread, unsure))
    queue = pd.DataFrame(rows, columns=["image1", "image2", "grades", "spread", "unsure"])
    order = {"spread": False, "unsure": False, "image1": True, "image2": True}
    return queue.sort_values(list(order), ascending=list(order.values()), ignore_index=True)


def self_agreement(
    journal: Journal, annotator: str | None = None, up_to_round: int | None = None
) -> tuple[int, float, float]:
    """How many pairs `annotator`, or everybody, graded again when asked, the share of equal grades,
    and the weighted kappa.
    """
    first, again = {}, {}
    acts = journal.standing() if annotator is None else journal.standing_by(annotator)
    for act in acts:
        if act.act == "grade" and (up_to_round is None or act.round <= up_to_round):
            grades = again if act.source == REPEAT else first
            grades[act.annotator, act.image1, act.image2] = act.grade
    return _compare([(first[asked], grade) for asked, grade in again.items() if asked in first])


def agreement_with_others(journal: Journal, annotator: str) -> tuple[int, float, float]:
    """How many pairs `annotator` and others graded, the share of grades equal to their lower
    median, and the kappa.
    """

    def opinions(acts):
        return [
            act
            for act in acts
            if act.act == "grade" and act.source not in (AUTOMATIC, ADJUDICATION)
        ]

    compared = []
    mine = opinions(journal.standing_by(annotator))
    for pair, grade in {(act.image1, act.image2): act.grade for act in mine}.items():
        given = {act.annotator: act.grade for act in opinions(journal.standing_on(*pair))}
        given.pop(annotator)
        if given:
            compared.append((grade, lower_median(given.values())))
    return _compare(compared)


def _compare(grades: list[tuple[int, int]]) -> tuple[int, float, float]:
    if not grades:
        return 0, np.nan, np.nan
    return (
        len(grades),
        sum(one == two for one, two in grades) / len(grades),
        weighted_kappa(*map(list, zip(*grades))),
    )
