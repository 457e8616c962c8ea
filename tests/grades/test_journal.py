"""The journal keeps every acknowledged act: interleaved annotators, undo, torn lines, several
writers.
"""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sklearn.metrics import cohen_kappa_score

from imgsearch_utils.grades.agreement import (
    agreement,
    agreement_with_others,
    graded_twice,
    self_agreement,
)
from imgsearch_utils.grades.journal import ADJUDICATION, AUTOMATIC, REPEAT, Journal
from imgsearch_utils.metrics import grading_ceiling
from imgsearch_utils.workspace import PUBLISHED

NAMES = ["a.jpg", 'b "b", b.jpg', "c\nc\\n.jpg", "dé\r\n.jpg", "é‮.jpg"]


class Journals(RuleBasedStateMachine):
    """Hands write, take back, are cut off and open it again; beside it a list of what stands."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.csv"
        self.journal, self.reader = Journal(self.path), Journal(self.path)
        self.acts, self.ends = [], [0]

    def teardown(self):
        self.folder.cleanup()

    @rule(
        name=st.sampled_from(["ann", "bob, jr.", "cé"]),
        pair=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True),
        act=st.sampled_from([0, 1, 2, 3, "skip", "unsure", "undo", "undo", "vote_up", "unvote"]),
    )
    def write(self, name, pair, act):
        kind, grade = ("grade", act) if isinstance(act, int) else (act, None)
        self.journal.append(name, *pair, kind, grade=grade)
        self.acts.append((name, *sorted(pair), kind, grade))
        self.ends.append(self.path.stat().st_size)

    @rule()
    def open_again(self):
        self.journal = self.reader = Journal(self.path)

    @precondition(lambda self: self.acts)
    @rule(share=st.floats(0, 1), write_first=st.booleans())
    def is_cut_off_in_its_last_line(self, share, write_first):
        *_, whole, end = self.ends
        os.truncate(self.path, whole + int(share * (end - whole - 1)))
        torn = self.path.read_bytes()[max(self.path.read_bytes().rfind(b"\n") + 1, 0) :]
        self.acts.pop()
        self.ends.pop()
        self.journal = self.reader = Journal(self.path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if write_first:
                self.write("ann", NAMES[:2], 3)
            self.journal.acts()
        assert bool(caught) == bool(torn)
        if torn:
            aside = self.path.with_name("journal.csv.torn").read_bytes()
            assert aside.endswith(torn + b"\n")

    @invariant()
    def it_says_what_stands(self):
        standing, grades = [], {}
        for act in self.acts:
            if act[3] == "undo":  # the nearest standing act of the same hand and pair goes
                same = [i for i, each in enumerate(standing) if each[:3] == act[:3]]
                if same:
                    del standing[same[-1]]
            elif "vote" not in act[3]:
                standing.append(act)
        found = [
            (act.annotator, act.image1, act.image2, act.act, act.grade)
            for act in self.journal.standing()
        ]
        assert found == standing and self.reader.acts() == self.journal.acts()
        for name, one, two, kind, grade in standing:
            if kind != "skip":  # unsure takes the place of a grade
                grades.setdefault((one, two), {})[name] = grade
        known = {
            pair: sorted(grade for grade in by_name.values() if grade is not None)
            for pair, by_name in grades.items()
        }
        labels = self.journal.labels()
        assert dict(zip(zip(labels.image1, labels.image2), labels.similarity)) == {
            pair: given[(len(given) - 1) // 2] for pair, given in known.items() if given
        }


TestJournals = Journals.TestCase
TestJournals.settings = settings(max_examples=25, stateful_step_count=20)


@pytest.mark.parametrize(
    ("act", "grade", "line"),
    [
        ("grade", 7, "expected 0, 1, 2 or 3, got 7"),
        ("grade", None, "got None"),
        ("skip", 2, "expected no grade"),
        ("grad", 1, "Did you mean grade"),
    ],
)
def test_acts_that_cannot_be_are_refused_and_not_written(tmp_path, act, grade, line):
    journal = Journal(tmp_path / "journal.csv")
    with pytest.raises(ValueError, match=line):
        journal.append("ann", "a", "b", act, grade=grade)
    assert not journal.path.exists()


def test_a_line_that_is_no_act_is_named(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "a", "b", "skip")
    with journal.path.open("ab") as file:
        file.write(b"no act\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="line 3: expected an act, got b'no act'"):
            journal.acts()
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="line 1: expected the header"):
        Journal(tmp_path / "other.csv").acts()


def test_a_batch_writes_graded_pairs_only_and_people_outvote_automatic_zeros(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    pairs = pd.DataFrame(
        {"image1": ["a", "d", "e"], "image2": ["b", "c", "f"], "similarity": [0, 0, np.nan]}
    )
    assert journal.append_many(pairs, "automatic", AUTOMATIC, round=0) == 2
    journal.append("ann", "b", "a", "grade", grade=2, round=1)
    journal.append("bob", "b", "a", "grade", grade=3, round=2)
    labels = journal.labels().set_index(["image1", "image2"])
    # the lower of two middle grades
    assert labels.similarity.to_dict() == {("a", "b"): 2, ("c", "d"): 0}
    assert labels.annotators.tolist() == [2, 1]
    assert journal.labels(up_to_round=0).similarity.tolist() == [0, 0]
    journal.append("eve", "a", "b", "grade", grade=1, source=ADJUDICATION)
    assert journal.labels().similarity.tolist() == [1, 0]


def test_unsure_takes_the_place_of_a_grade_and_a_skip_does_not(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "a", "b", "grade", grade=2)
    journal.append("ann", "a", "b", "skip")
    assert journal.labels().similarity.tolist() == [2]
    journal.append("ann", "a", "b", "unsure")
    assert journal.labels().empty
    assert agreement(journal).queue[["image1", "image2", "unsure"]].values.tolist() == [
        ["a", "b", 1]
    ]
    journal.append("ann", "a", "b", "undo")
    assert journal.labels().similarity.tolist() == [2]


def test_votes_of_the_search_page_are_never_grades_nor_answers(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    for name, pair, act in (
        ("ann", "b", "vote_up"),
        ("bob", "b", "vote_down"),
        ("ann", "c", "vote_up"),
        ("ann", "c", "unvote"),
        ("bob", "d", "vote_up"),
        ("bob", "d", "vote_down"),
    ):
        journal.append(name, pair, "a", act)
    assert journal.labels().empty and journal.standing() == [] and journal.votes() == {}
    assert np.isnan(agreement(journal).alpha) and agreement(journal).queue.empty
    said = {
        pair: {name: act.act for name, act in by.items()}
        for pair, by in journal.search_votes().items()
    }
    assert said == {
        ("a", "b"): {"ann": "vote_up", "bob": "vote_down"},
        ("a", "d"): {"bob": "vote_down"},
    }
    journal.append("ann", "a", "b", "grade", grade=2)
    journal.append("ann", "a", "b", "vote_down")
    journal.append("ann", "a", "b", "undo")  # takes back the grade, not the vote after it
    assert journal.labels().empty and journal.search_votes()["a", "b"]["ann"].act == "vote_down"
    with pytest.raises(ValueError, match="vote_up: expected no grade, got 3"):
        journal.append("ann", "a", "b", "vote_up", grade=3)


def ordinal_alpha(first, second):
    """Krippendorff's ordinal alpha of two raters, by the formula over the coincidence matrix."""
    coincidence = np.zeros((4, 4))
    for a, b in zip(first, second):
        coincidence[a, b] += 1
        coincidence[b, a] += 1
    n = coincidence.sum(0)
    between = [[n[min(c, k) : max(c, k) + 1].sum() for k in range(4)] for c in range(4)]
    apart = (np.array(between) - (n[:, None] + n) / 2) ** 2
    expected = sum(n[c] * n[k] * apart[c, k] for c in range(4) for k in range(4)) / (n.sum() - 1)
    return 1 - (coincidence * apart).sum() / expected


def test_agreement_is_that_of_the_formulas(tmp_path):
    journal, rng = Journal(tmp_path / "journal.csv"), np.random.default_rng(0)
    ann = rng.integers(0, 4, 60)
    bob = np.clip(ann + rng.integers(-1, 2, 60), 0, 3)
    for name, grades in (("ann", ann), ("bob", bob)):
        pairs = pd.DataFrame(
            {"image1": "a", "image2": [f"b{i:02}" for i in range(60)], "similarity": grades}
        )
        journal.append_many(pairs, name, "person")
    journal.append_many(pairs.assign(similarity=0), "automatic", AUTOMATIC)
    found = agreement(journal)
    assert found.alpha == pytest.approx(ordinal_alpha(ann, bob))
    assert found.kappa[["annotator1", "annotator2", "pairs"]].values.tolist() == [
        ["ann", "bob", 60]
    ]
    assert found.kappa.kappa[0] == pytest.approx(cohen_kappa_score(ann, bob, weights="quadratic"))
    assert found.kappa.same[0] == pytest.approx((ann == bob).mean())
    assert len(found.queue) == (ann != bob).sum() and (found.queue.spread == 1).all()
    first = found.queue.iloc[0]
    journal.append("eve", first.image1, first.image2, "grade", grade=0, source=ADJUDICATION)
    assert len(agreement(journal).queue) == len(found.queue) - 1
    assert agreement(journal).alpha == pytest.approx(found.alpha)


def test_agreement_of_nobody_is_undefined_not_an_error(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    assert (
        np.isnan(agreement(journal).alpha)
        and agreement(journal).kappa.empty
        and agreement(journal).queue.empty
    )
    for name in ("ann", "bob"):
        journal.append(name, "a", "b", "grade", grade=3)
    assert np.isnan(agreement(journal).alpha) and agreement(journal).kappa.same.tolist() == [1]


def test_repeats_measure_agreement_with_oneself_and_corrections_do_not(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    assert self_agreement(journal, "ann")[0] == 0
    for pair, first, corrected, again in (
        ("b", 0, 3, 3),
        ("c", 0, 0, 1),
        ("d", 2, 2, 2),
        ("e", 1, 3, None),
    ):
        for grade in (first, corrected):
            journal.append("ann", "a", pair, "grade", grade=grade)
        if again is not None:
            journal.append("ann", "a", pair, "grade", grade=again, source=REPEAT)
    repeats, same, kappa = self_agreement(journal, "ann")
    assert (repeats, same) == (3, pytest.approx(2 / 3))
    assert kappa == pytest.approx(
        cohen_kappa_score([3, 0, 2], [3, 1, 2], weights="quadratic", labels=[0, 1, 2, 3])
    )


def test_agreement_with_others_is_with_their_lower_median(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    for name, grades in (("ann", [3, 1, 0]), ("bob", [3, 2]), ("cat", [2, 1, 1])):
        for pair, grade in zip("bcd", grades):
            journal.append(name, "a", pair, "grade", grade=grade)
    assert agreement_with_others(journal, "ann")[:2] == (3, pytest.approx(1 / 3))  # against 2, 1, 1
    assert agreement_with_others(journal, "nobody")[0] == 0


def test_people_who_grade_twice_set_the_ceiling(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    assert np.isnan(grading_ceiling(*graded_twice(journal)).f1)
    for annotator, grades in (("ann", (3, 3, 0, 1)), ("bob", (3, 2, 3)), ("eve", (0, 0, 0))):
        for k, grade in enumerate(grades):
            journal.append(annotator, "a", f"b{k}", "grade", grade=grade)
    journal.append("ann", "a", "b3", "grade", grade=1, source=REPEAT)
    first, second = graded_twice(journal)
    assert (first, second) == ([3, 3, 0, 1], [3, 2, 3, 1])  # the third voice does not count
    ceiling = grading_ceiling(first, second)
    assert ceiling.pairs == 4 and ceiling.f1 == pytest.approx(2 * 1 / (2 + 2))
    assert ceiling == grading_ceiling(second, first)


def test_the_journal_of_a_published_run_is_read_and_never_written(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "a", "b", "grade", grade=3)
    before = journal.path.read_bytes()
    (tmp_path / PUBLISHED).touch()
    more = pd.DataFrame({"image1": ["a"], "image2": ["c"], "similarity": [1.0]})
    for write in (
        lambda: journal.append("ann", "a", "b", "undo"),
        lambda: journal.append_many(more, "ann", "person"),
    ):
        with pytest.raises(ValueError, match="this run is published and never written again"):
            write()
    assert journal.path.read_bytes() == before and Journal(
        journal.path
    ).labels().similarity.tolist() == [3]
