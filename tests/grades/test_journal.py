"""The journal keeps every acknowledged act: interleaved annotators, undo, torn lines, several
writers.
"""

import multiprocessing
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


@st.composite
def an_act(draw):
    one, two = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
    kind = draw(
        st.sampled_from(
            ["grade", "grade", "grade", "skip", "unsure", "undo", "undo", "vote_up", "unvote"]
        )
    )
    grade = draw(st.integers(0, 3)) if kind == "grade" else None
    return draw(st.sampled_from(["ann", "bob, jr.", "cé"])), one, two, kind, grade


def replayed(acts):
    """Standing acts by a plain rule: walk back from an undo to the nearest standing act of the same
    hand and pair.
    """
    standing = []
    for name, one, two, kind, grade in [act for act in acts if "vote" not in act[3]]:
        if kind != "undo":
            standing.append((name, *sorted([one, two]), kind, grade))
            continue
        for i in reversed(range(len(standing))):
            if standing[i][:3] == (name, *sorted([one, two])):
                del standing[i]
                break
    return standing


def seen(journal):
    return [
        (act.annotator, act.image1, act.image2, act.act, act.grade) for act in journal.standing()
    ]


@settings(max_examples=120)
@given(st.lists(an_act(), max_size=10), st.lists(an_act(), max_size=3), st.data())
def test_any_interleaving_truncated_anywhere_replays_to_the_state_before_the_torn_line(
    acts, later, data
):
    with tempfile.TemporaryDirectory() as folder:
        path, ends = Path(folder) / "journal.csv", [0]
        for name, one, two, kind, grade in acts:
            Journal(path).append(name, one, two, kind, grade=grade)
            ends.append(path.stat().st_size)
        assert seen(Journal(path)) == replayed(acts)
        if not acts:
            return
        cut = data.draw(st.integers(0, ends[-1]), label="cut")
        os.truncate(path, cut)
        torn = path.read_bytes()[path.read_bytes().rfind(b"\n") + 1 :]
        whole = acts[: sum(end <= cut for end in ends[1:])]
        journal = Journal(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert seen(journal) == replayed(whole)
        assert bool(caught) == bool(torn)
        if torn:
            assert (Path(folder) / "journal.csv.torn").read_bytes() == torn + b"\n"
        for name, one, two, kind, grade in later:
            journal.append(name, one, two, kind, grade=grade)
        assert seen(journal) == seen(Journal(path)) == replayed(whole + later)


def test_a_writer_sets_a_torn_line_aside_before_it_appends(tmp_path):
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "a", "b", "grade", grade=3)
    with journal.path.open("ab") as file:
        file.write(b"2026-01-01,ann,c,d,gra")
    with pytest.warns(UserWarning, match="journal.csv.torn"):
        journal.append("ann", "c", "d", "grade", grade=1)
    assert journal.labels().similarity.tolist() == [3, 1]


def write_alone(path, name):
    journal = Journal(path)
    for i in range(25):
        journal.append(name, "a", f"b{i}", "grade", grade=i % 4)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "journal.csv"
    hands = [
        context.Process(target=write_alone, args=(path, name)) for name in ("ann", "bob", "cat")
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    acts = Journal(path).acts()
    assert {
        name: [act.image2 for act in acts if act.annotator == name]
        for name in ("ann", "bob", "cat")
    } == {name: [f"b{i}" for i in range(25)] for name in ("ann", "bob", "cat")}


def test_a_reader_follows_another_writer(tmp_path):
    reader, writer = (
        Journal(tmp_path / "j" / "journal.csv"),
        Journal(tmp_path / "j" / "journal.csv"),
    )
    assert reader.acts() == []
    for i in range(3):
        writer.append(
            "ann", "a", f"b{i}", "grade", grade=i, seconds=1.5, round=2, answers="yn-------"
        )
        assert reader.acts() == writer.acts() and len(reader.acts()) == i + 1
    act = reader.acts()[-1]
    assert (act.grade, act.seconds, act.round, act.answers, act.source) == (
        2,
        1.5,
        2,
        "yn-------",
        "person",
    )
    assert act.time.endswith("+00:00")


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


def test_a_full_disk_loses_nothing_and_leaves_no_half_line(tmp_path):
    resource = pytest.importorskip("resource", reason="limits of file size are a matter of POSIX")
    journal = Journal(tmp_path / "journal.csv")
    journal.append("ann", "a", "b", "grade", grade=3)
    before, limits = journal.path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="full|large"):
            journal.append("ann", "a", "c", "grade", grade=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.read_bytes() == before
    journal.append("ann", "a", "c", "grade", grade=1)
    assert Journal(journal.path).labels().similarity.tolist() == [3, 1]


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
