"""Both pages for everybody: axe-core finds no serious fault, nothing lies outside a small screen,
tabs stay few.
"""

import json

import numpy as np
import pandas as pd
import pytest

from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.pages.tagger import Tagging, Task
from imgsearch_utils.pictures.collection import read_collection
from imgsearch_utils.study import ImageSettings, Rubric, read_study
from tests import tiny_study
from tests.pages.chromium import SIZES, browser, faults, needs_chromium


@needs_chromium
def test_the_search_page_is_for_everybody(tmp_path):
    tiny_study.make(tmp_path)
    picture = tiny_study.picture_of(tmp_path, tiny_study.HOUSES[0])
    with (
        browser.ServedPage(tmp_path, "serve", "--study=tiny") as server,
        browser.browser_page(*SIZES[0]) as page,
    ):
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.locator(".sp-root[data-open]").wait_for(timeout=90_000)
        assert page.url == server.address  # without the token
        assert not faults(page)
        page.locator("input[type=file]").set_input_files(picture)
        page.wait_for_function("() => document.querySelectorAll('.sp-grid img').length === 24")
        assert not faults(page)
        cards = page.locator(".sp-card")
        stops = cards.evaluate_all(
            "all => all.map(card => [...card.querySelectorAll('button')].filter("
            "button => !button.disabled && button.tabIndex === 0).length)"
        )
        assert stops == [1] * 24
        assert page.locator("img").evaluate_all("all => all.every(each => each.alt)")
        for votes, (place, way) in enumerate(((3, "up"), (4, "down"))):
            cards.nth(place).locator(f".sp-{way}").click()
            page.locator(".sp-marks button").nth(votes).wait_for()
        page.get_by_role("group", name="whose results are shown").get_by_text("Encoder").click()
        assert not faults(page)
        page.locator(".sp-encoder .sp-card[data-self='']").first.locator(".sp-picture").click()
        page.wait_for_function("() => document.querySelectorAll('dialog[open] img').length === 2")
        assert not faults(page)
        assert not said


@needs_chromium
def test_the_tagger_is_for_everybody_and_shows_all_controls_at_once(tmp_path):
    rubric = read_study(browser.REPOSITORY / "configs" / "synthetic_houses.yaml").rubric
    browser.draw_study(tmp_path / "study", images=6, pairs=10, rubric=rubric, repeats=0)
    with browser.ServedPage(tmp_path / "study") as server, browser.browser_page(*SIZES[0]) as page:
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.locator(".lt-asking").wait_for()
        assert not faults(page)
        browser.start_grading(page, "ann")
        for question in (1, 3, 3):
            page.keyboard.press(f"Shift+Digit{question}")
        assert not faults(page)
        for control in page.locator(".lt-root :is(button, figure, summary):visible").all():
            box = control.bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= 800, control.inner_text()
        page.locator(".lt-zoom").focus()
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('dialog[open] img').length === 2")
        assert not faults(page)
        page.keyboard.press("Escape")
        browser.press(page, "2")
        assert not said


@pytest.fixture
def task(tmp_path):
    browser.draw_study(tmp_path, images=4, pairs=6)
    collection = read_collection(tmp_path / "pictures", ImageSettings(source="pictures"))
    return Task(
        pd.read_csv(tmp_path / "pairs.csv"),
        collection,
        Journal(tmp_path / "journal.csv"),
        Rubric(),
        repeats=0,
    )


def sitting(task) -> tuple[Tagging, list]:
    """A page before which Ann sits, and what it is told."""
    said = []
    page = Tagging(task, lambda content, buffers=(): said.append(content))
    page.receive({"kind": "hello", "name": "ann"})
    return page, said


def an_act(state: dict, serial: str, **more) -> dict:
    return {
        "kind": "act",
        "act": "grade",
        "grade": 2,
        "place": state["place"],
        "seconds": 1.5,
        "serial": serial,
        "pair": [each["name"] for each in state["pictures"]],
        "lines": state["lines"],
        **more,
    }


@pytest.mark.parametrize("same_server", [True, False], ids=["connection lost", "server ended"])
@pytest.mark.parametrize("written", [True, False], ids=["was written", "was not"])
def test_an_act_that_was_not_acknowledged_is_written_once(task, same_server, written):
    page, said = sitting(task)
    message = an_act(said[-1], "a-1")
    if written:
        page.receive(message)
    other = (
        task
        if same_server
        else Task(task.pairs, task.collection, Journal(task.journal.path), repeats=0)
    )
    page, said = sitting(other)
    page.receive({**message, "again": True})
    assert (said[-1]["kind"], said[-1]["serial"], said[-1]["done"]) == ("state", "a-1", 1)
    page.receive({**message, "again": True})
    assert [act.grade for act in task.journal.acts()] == [2]
    page.receive({"kind": "undo", "serial": "a-2", "lines": 1})
    again = Task(task.pairs, task.collection, Journal(task.journal.path), repeats=0)
    page, said = sitting(again)
    page.receive({"kind": "undo", "serial": "a-2", "lines": 1, "again": True})
    assert [act.act for act in task.journal.acts()] == ["grade", "undo"] and said[-1]["done"] == 0
    page.receive(an_act(said[-1], "a-3"))  # the same grade, given anew, is an act of its own
    assert [act.act for act in task.journal.acts()] == ["grade", "undo", "grade"]


def test_a_page_of_other_pairs_writes_nothing(task):
    page, said = sitting(task)
    page.receive({**an_act(said[-1], "a-1"), "pair": ["x.png", "y.png"]})
    assert said[-1]["kind"] == "error" and "have changed since it was opened" in said[-1]["line"]
    assert not task.journal.acts()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"grade": 7},
        {"grade": "3"},
        {"act": "undo"},
        {"act": "vote_up"},
        {"place": -1},
        {"place": 10**9},
        {"place": "0"},
        {"seconds": "soon"},
        {"answers": "y,n"},
        {"answers": 7},
        {"serial": None, "pair": 3},
        {"kind": "nothing"},
        {"serial": None},
        {"serial": np.nan},
        {"serial": np.inf},
        {"serial": ["a-1"]},
        {"serial": {}},
    ],
)
def test_an_act_that_cannot_be_is_refused_in_one_line(task, spoilt):
    page, said = sitting(task)
    page.receive({**an_act(said[-1], "a-1"), **spoilt})
    assert said[-1]["kind"] == "error" and "\n" not in said[-1]["line"]
    assert not task.journal.acts() and json.loads(json.dumps(said[-1], allow_nan=False)) == said[-1]


@pytest.mark.parametrize("serial", [None, np.nan, ["a-1"]])
def test_an_undo_that_could_not_be_acknowledged_takes_nothing_back(task, serial):
    page, said = sitting(task)
    page.receive(an_act(said[-1], "a-1"))
    page.receive({"kind": "undo", "serial": serial})
    assert said[-1]["kind"] == "error" and [act.act for act in task.journal.acts()] == ["grade"]


def test_how_long_one_looked_is_bounded(task):
    page, said = sitting(task)
    for number, (seconds, kept) in enumerate(
        [(-5, 0), (1e300, 86_400), (np.nan, None), (np.inf, 86_400)]
    ):
        page.receive(an_act(said[-1], f"a-{number}", seconds=seconds))
        assert task.journal.acts()[-1].seconds == kept
