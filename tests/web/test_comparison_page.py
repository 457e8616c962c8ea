"""The page of comparisons: what it acknowledged is in the journal, by keyboard and by mouse."""

import pandas as pd
import pytest

from imgsearch_utils import workspace
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.study import ImageSettings
from imgsearch_utils.web.comparison_page import Comparing, Questions, open_questions
from imgsearch_utils.web.queues import open_queue
from tests import tiny_study
from tests.tiny_study import command, living_in
from tests.web.chromium import browser, faults, needs_chromium


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("compared")
    tiny_study.make(home)
    return home


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    browser.draw_study(folder, images=5, pairs=1)
    return read_collection(folder / "pictures", ImageSettings(source="pictures"))


class Page:
    """The page's side of the talk, without a browser."""

    def __init__(self, task, annotator="ann"):
        self.said, self.sent = [], 0
        self.sitting = Comparing(task, lambda message, *_: self.said.append(message), annotator)
        self.sitting.receive({"kind": "hello"})

    @property
    def state(self):
        return [message for message in self.said if message["kind"] == "state"][-1]

    def message(self, **content):
        self.sent += 1
        return {"serial": f"s{self.sent}", "lines": self.state["lines"], **content}

    def answer(self, side):
        shown = [picture["name"] for picture in self.state["pictures"]]
        place = self.state["place"]
        message = self.message(kind="answer", place=place, names=shown, side=side, seconds=1.5)
        self.sitting.receive(message)
        return shown, message

    def undo(self):
        message = self.message(kind="undo")
        self.sitting.receive(message)
        return message


@pytest.fixture
def task(pictures, tmp_path):
    names = pictures.images.image.tolist()
    table = pd.DataFrame(
        [names[:3], [names[0], names[2], names[3]], names[1:4]],
        columns=["query", "candidate1", "candidate2"],
    )
    return Questions(table, pictures, Journal(tmp_path / "journal.csv"))


def test_answers_and_undo_are_the_persons_own_and_never_touch_a_grade(task):
    journal, ann, bob = task.journal, Page(task), Page(task, "bob")
    first, _ = ann.answer("right")
    second, _ = ann.answer("neither")
    journal.append("ann", first[0], first[1], "grade", grade=3)
    bob.answer("left")
    rows = journal.comparisons(neither=True)
    assert rows[["query", "closer", "farther", "annotator"]].to_numpy().tolist() == [
        [first[0], first[2], first[1], "ann"],
        [second[0], *sorted(second[1:]), "ann"],
        [*first, "bob"],
    ]
    assert rows.neither.tolist() == [False, True, False] and rows.seconds[0] == 1.5
    ann.undo()  # the last answer, though a grade and bob's answer came after it
    assert ann.state["place"] == 1 and ann.state["done"] == 1
    ann.undo()
    ann.undo()  # nothing is left to take back
    assert ann.state["place"] == 0 and journal.comparisons().annotator.tolist() == ["bob"]
    assert journal.labels().similarity.tolist() == [3]
    for side in ("left", "right", "left"):
        ann.answer(side)
    assert "pictures" not in ann.state and ann.state["done"] == 3
    assert Page(task).state["done"] == 3  # a new page goes on where she stopped


def test_what_is_sent_again_is_written_once_also_by_a_server_that_is_new(task):
    page = Page(task)
    _, message = page.answer("left")
    before = task.journal.path.read_bytes()
    page.sitting.receive({**message, "again": True})
    again = Questions(task.table, task.collection, Journal(task.journal.path))
    Page(again).sitting.receive({**message, "again": True})
    assert task.journal.path.read_bytes() == before
    Page(again).sitting.receive({**message, "side": "right"})
    assert len(task.journal.standing_comparisons()) == 2  # another answer is one
    undo = page.undo()
    after = task.journal.path.read_bytes()
    Page(again).sitting.receive({**undo, "again": True})
    assert task.journal.path.read_bytes() == after != before


@pytest.mark.parametrize(
    "change",
    [
        {"side": "up"},
        {"place": 7},
        {"place": True},
        {"names": ["a", "b", "c"]},
        {"serial": None},
        {"seconds": "long"},
        {"kind": "grade"},
    ],
    ids=str,
)
def test_what_is_no_answer_is_refused_in_a_line_and_not_written(task, change):
    page = Page(task)
    shown = [picture["name"] for picture in page.state["pictures"]]
    message = page.message(kind="answer", place=0, names=shown, side="left", seconds=1.0)
    page.sitting.receive({**message, **change})
    assert page.said[-1]["kind"] == "error" and "\n" not in page.said[-1]["line"]
    assert not task.journal.acts()


def test_a_run_asks_the_same_questions_each_time_and_more_when_all_have_answers(home, monkeypatch):
    with living_in(home):
        run = workspace.find_run("tiny")
        monkeypatch.setattr("imgsearch_utils.web.comparison_page.BATCH", 4)
        first = open_questions(run, 1)
        assert len(first.table) == 4 and first.table.equals(open_questions(run, 1).table)
        page = Page(first, "eve")
        for _ in range(4):
            page.answer("left")
        more = open_questions(run, 1)
        assert len(more.table) == 8 and more.table[:4].equals(first.table)
        assert Page(more, "eve").state["done"] == 4
        asked, later = (
            {(query, *sorted(two)) for query, *two in task.table.to_numpy().tolist()}
            for task in (first, open_questions(run, 2))
        )
        assert not asked & later  # a later round does not ask them again


def test_a_queue_that_is_misspelt_is_told_of_the_comparisons(home):
    said = command(home, "tag", "tiny", "--queue", "comparison", "--no-browser")
    assert said.returncode == 1 and "Did you mean comparisons" in said.stderr


def test_where_pairs_are_expected_comparisons_are_refused_with_their_command(home):
    line = "imgsearch tag tiny --queue comparisons"
    with living_in(home), pytest.raises(ValueError, match=line):
        open_queue(workspace.find_run("tiny"), "comparisons", 0)


@needs_chromium
def test_comparing_in_a_browser_by_keyboard_and_by_mouse(home):
    journal = Journal(home / "active_learning_labels/tiny/journal.csv")
    before = len(journal.acts())
    server = browser.ServedPage(home, "tag", "tiny", "--queue", "comparisons")
    with server, browser.browser_page() as page:
        page.goto(server.url)
        browser.start_grading(page, "Ann <b>")

        def names():
            browser.ready(page)
            left, query, right = page.locator(".cp-stage figcaption").all_inner_texts()
            return query, left, right

        told = []
        for pressed in ("ArrowLeft", "ArrowRight", "ArrowDown", "n"):
            query, left, right = names()
            browser.press(page, pressed)
            if pressed == "ArrowRight":
                told.append(("closer", query, right, left))
            elif pressed == "ArrowLeft":
                told.append(("closer", query, left, right))
            else:
                told.append(("neither", query, *sorted([left, right])))
        browser.press(page, "u")
        told.append(("uncompare", *told[-1][1:]))
        assert names() == (query, left, right)  # it is asked again
        for part, number in ((".cp-right figure", 6), (".cp-left .cp-answer", 7)):
            query, left, right = names()
            page.locator(part).click()
            page.locator(f".lt-root[data-acknowledged='{number}']").wait_for()
            both = (right, left) if "right" in part else (left, right)
            told.append(("closer", query, *both))
        assert page.locator(".lt-progress b").inner_text().startswith("5 of ")
        acts = journal.acts()[before:]
        assert [(act.act, act.image1, act.image2, act.answers) for act in acts] == told
        assert {act.annotator for act in acts} == {"Ann <b>"} and acts[0].seconds > 0
        page.goto(server.url)  # the name is not asked again
        browser.ready(page)
        assert page.locator(".lt-root").get_attribute("data-done") == "5"
        server.kill()
        page.keyboard.press("ArrowLeft")
        page.locator("#notice:not([hidden])").wait_for()
        server.start()
        page.locator(".lt-root[data-done='6']").wait_for()
        assert len(journal.acts()) == before + 8
        browser.ready(page)
        assert faults(page) == []
