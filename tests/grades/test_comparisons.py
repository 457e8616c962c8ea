"""Comparisons: kept in the journal as safely as grades, and never mixed with them."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgsearch_utils.grades.agreement import agreement, graded_twice
from imgsearch_utils.grades.journal import COMPARISONS, Journal
from imgsearch_utils.workspace import PUBLISHED

PEOPLE, IMAGES = ["ann", "bob, jr."], ["a.jpg", 'b "b", b.jpg', "c\nc\\n.jpg", "é\r\n.jpg"]


class Comparers(RuleBasedStateMachine):
    """Hands compare and grade, take back, are cut off and open the journal again; beside it a list
    of what stands.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.csv"
        self.journal, self.reader = Journal(self.path), Journal(self.path)
        self.acts, self.ends = [], [0]

    def teardown(self):
        self.folder.cleanup()

    def wrote(self, *act):
        self.acts.append(act)
        self.ends.append(self.path.stat().st_size)

    @rule(
        name=st.sampled_from(PEOPLE),
        images=st.permutations(IMAGES),
        act=st.sampled_from([*COMPARISONS, "uncompare"]),
        number=st.integers(0, 2),
    )
    def compare(self, name, images, act, number):
        self.journal.compare(name, *images[:3], act, round=number)
        self.wrote(name, act, number, *images[:3])

    @rule(
        name=st.sampled_from(PEOPLE),
        images=st.permutations(IMAGES),
        act=st.sampled_from([3, "skip", "undo", "vote_up"]),
    )
    def grade(self, name, images, act):
        kind, grade = ("grade", act) if act == 3 else (act, None)
        self.journal.append(name, *images[:2], kind, grade=grade)
        self.wrote(name, kind, 0, *sorted(images[:2]))

    @rule()
    def open_again(self):
        self.journal = self.reader = Journal(self.path)

    @precondition(lambda self: self.acts)
    @rule(share=st.floats(0, 1))
    def is_cut_off_in_its_last_line(self, share):
        *_, whole, end = self.ends
        os.truncate(self.path, whole + int(share * (end - whole - 1)))
        self.acts.pop()
        self.ends.pop()
        self.open_again()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.journal.acts()

    @invariant()
    def each_kind_of_evidence_is_what_was_said_of_its_kind(self):
        compared, paired = [], []
        for act in self.acts:
            name, kind, _, *images = act
            own = compared if kind in COMPARISONS else paired
            if kind in ("undo", "uncompare"):  # the nearest answer to the same question goes
                same = [
                    i
                    for i, (other, _, _, *others) in enumerate(own)
                    if (other, others[0], {*others}) == (name, images[0], {*images})
                ]
                if same:
                    del own[same[-1]]
            elif kind != "vote_up":
                own.append(act)
        for last in (None, 0, 1):
            current = {}
            for name, kind, number, query, *candidates in compared:
                if last is None or number <= last:
                    question = name, query, *sorted(candidates)
                    current.pop(question, None)
                    closer, farther = candidates if kind == "closer" else sorted(candidates)
                    current[question] = (query, closer, farther, kind == "neither", name, number)
            every = self.reader.comparisons(last, neither=True)
            columns = ["query", "closer", "farther", "neither", "annotator", "round"]
            assert [*every[columns].itertuples(index=False, name=None)] == [*current.values()]
            teaching = self.journal.comparisons(last)
            assert not teaching.neither.any() and len(teaching) == (~every.neither).sum()
        standing = [(act.annotator, act.act, act.image1, act.image2) for act in paired_acts(self)]
        assert standing == [(name, kind, *images) for name, kind, _, *images in paired]
        graded = {tuple(images) for _, kind, _, *images in paired if kind == "grade"}
        labels = self.reader.labels()
        assert {*zip(labels.image1, labels.image2)} == graded


def paired_acts(world):
    return world.reader.standing()


TestComparers = Comparers.TestCase
TestComparers.settings = settings(max_examples=40, stateful_step_count=20)


def test_a_comparison_is_no_grade_no_vote_and_no_answer_to_a_pair(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "q", "a", "grade", grade=2)
    journal.append("ann", "q", "a", "vote_up")
    before = journal.labels(), journal.standing(), journal.search_votes()
    journal.compare("ann", "q", "b", "a", seconds=1.5, round=2)
    journal.compare("bob", "q", "a", "b")
    journal.compare("bob", "q", "c", "a", "neither")
    assert journal.labels().equals(before[0])
    assert (journal.standing(), journal.search_votes()) == before[1:]
    assert agreement(journal).queue.empty and graded_twice(journal) == ([], [])
    columns = ["query", "closer", "farther", "annotator", "round"]
    table = journal.comparisons()
    assert table[columns].to_numpy(object).tolist() == [
        ["q", "b", "a", "ann", 2],
        ["q", "a", "b", "bob", 0],
    ]
    assert table.seconds[0] == 1.5 and np.isnan(table.seconds[1])
    for pair in (("q", "a"), ("q", "b"), ("a", "b")):
        journal.append("ann", *pair, "undo")
    assert journal.labels().empty and len(journal.comparisons()) == 2
    journal.compare("ann", "q", "a", "b", "uncompare")  # whichever way round
    assert journal.comparisons().annotator.tolist() == ["bob"]
    assert len(journal.comparisons(neither=True)) == 2


def test_what_cannot_be_a_comparison_is_refused_and_not_written(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    for images in (
        ("q", "a", "a"),
        ("q", "q", "a"),
        ("q", "a", "q"),
        ("q", "a", ""),
        ("", "a", "b"),
    ):
        with pytest.raises(ValueError, match="different images|two images"):
            journal.compare("ann", *images)
    with pytest.raises(ValueError, match="Did you mean closer"):
        journal.compare("ann", "q", "a", "b", "closr")
    for act in COMPARISONS:  # its canonical order would exchange the query and a candidate
        with pytest.raises(ValueError, match="write comparisons by `compare`"):
            journal.append("ann", "q", "a", act, answers="b")
        with pytest.raises(ValueError, match="write comparisons by `compare`"):
            journal.append_together("ann", [("q", "a")], act, answers="b")
    assert not journal.path.exists()
    journal.compare("ann", "q", "a", "b")
    whole = journal.path.read_bytes()
    (tmp_path / "edited.csv").write_bytes(whole.replace(b",b\n", b",\n"))
    with pytest.raises(ValueError, match="line 2: expected an act"):
        Journal(tmp_path / "edited.csv").acts()
    (tmp_path / PUBLISHED).touch()
    with pytest.raises(ValueError, match="published and never written again"):
        journal.compare("ann", "q", "c", "b")
    assert journal.path.read_bytes() == whole


def test_an_older_journal_is_read_on_and_compared_in(tmp_path):
    path = tmp_path / "journal.csv"
    path.write_text(
        "time,annotator,image1,image2,act,grade,seconds,round,rubric,source,answers\n"
        "2026-01-01T00:00:00.000+00:00,ann,a,b,grade,3,1.0,0,1,person,yn-------\n"
    )
    journal = Journal(path)
    journal.compare("ann", "b", "c", "a")
    assert Journal(path).labels().similarity.tolist() == [3]
    assert Journal(path).comparisons().closer.tolist() == ["c"]
