"""From a folder of pictures to a search that has learnt: the commands, and the teaching page in a
real Chromium.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from imgsearch_utils.drawn_houses import draw_house, grade_pairs, sample_houses
from imgsearch_utils.grades.journal import AUTOMATIC, REST, Journal
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.steps.teaching_session import EVERY, TeachingSession, learn_now
from imgsearch_utils.web.pair_order import lists_of
from imgsearch_utils.workspace import find_run
from tests import tiny_study
from tests.tiny_study import command, living_in
from tests.web.chromium import browser, faults, needs_chromium

HOUSES = sample_houses(16, seed=4)
SMALL = [
    argument
    for setting in ("asked_per_round=60", "head.epochs=4", "sizes=[]", "indexes=[{name: exact}]")
    for argument in ("--set", setting)
]
LOG = "active_learning_results/tested/results_log.csv"


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A workspace with a study of plain pictures that has run to its first report; nobody was
    asked.
    """
    home = tmp_path_factory.mktemp("school")
    (home / "pictures").mkdir()
    for house in HOUSES.to_dict("records"):
        draw_house(house, 128).save(home / "pictures" / house["file_label"])
    assert command(home, "new", "tested", home / "pictures").returncode == 0
    process = command(home, "run", "tested", *SMALL)
    assert process.returncode == 0, process.stderr
    assert (home / "report_results/tested/index.html").is_file() and not (home / LOG).exists()
    return home


@pytest.fixture
def school(begun, tmp_path) -> Path:
    """A copy of it, to be taught."""
    for folder in begun.iterdir():
        if folder.name != "pictures":  # which the study names by its path
            shutil.copytree(folder, tmp_path / folder.name, symlinks=True)
    return tmp_path


def grade(one: str, two: str) -> int:
    """What the rubric says of two houses."""
    return int(grade_pairs(HOUSES, pd.DataFrame({"image1": [one], "image2": [two]}))[0])


class Person:
    """Somebody in front of the page who answers by the rubric, by keyboard alone, and remembers
    what was told.
    """

    def __init__(self, page):
        # (pair, act, grade) in order, as the journal should hold them
        self.page, self.told = page, []

    @property
    def done(self) -> int:
        return int(self.page.locator(".lt-root").get_attribute("data-done"))

    def press(self, pressed: str) -> None:
        browser.press(self.page, pressed)

    def shown(self) -> tuple[list[tuple[str, str]], tuple[str, str]]:
        """The pairs on screen that have no grade yet, and the one that a key grades."""
        browser.ready(self.page)
        if not self.page.locator(".lt-root.lt-listing").count():
            pair = tuple(self.page.locator(".lt-stage > .lt-figure figcaption").all_text_contents())
            return [pair], pair
        query = self.page.locator(".lt-list > .lt-figure figcaption").text_content()
        results = self.page.eval_on_selector_all(
            ".lt-result", "all => all.map(each => each.result)"
        )
        current = self.page.eval_on_selector(".lt-current", "card => card.result.name")
        return [(query, each["name"]) for each in results if each["standing"] is None], (
            query,
            current,
        )

    def answer(self) -> None:
        """Grade what is on screen, by one key: a pair, a result, or the rest of a list."""
        left, pair = self.shown()
        if len(left) > 1 and all(grade(*each) == 0 for each in left):
            self.press("Enter")
            self.told += [(key(*each), "grade", 0) for each in left]
        else:
            self.press(str(grade(*pair)))
            self.told.append((key(*pair), "grade", grade(*pair)))

    def teach(self, until: int) -> None:
        while self.done < until:
            self.answer()

    def wait_for(self, *states: str) -> None:
        self.page.wait_for_function(
            "states => states.includes(document.querySelector('.lt-learnt')?.dataset.state)",
            arg=list(states),
            timeout=120_000,
        )


def written(home: Path) -> list[tuple]:
    """What people told the journal, in order."""
    return [
        ((act.image1, act.image2), act.act, act.grade)
        for act in Journal(home / "active_learning_labels/tested/journal.csv").acts()
        if act.annotator == "Ada"
    ]


@needs_chromium
def test_fifty_grades_teach_and_the_round_is_what_a_headless_run_makes_of_the_journal(school):
    """Slow: a run is made before the page and another one after it."""
    with (
        browser.ServedPage(school, "teach", "tested") as server,
        browser.browser_page(1280, 800) as page,
    ):
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.locator(".lt-root").wait_for(timeout=90_000)
        browser.start_grading(page, "Ada")
        ada = Person(page)
        while not page.locator(".lt-root.lt-listing").count():
            ada.answer()
        take_back_and_look_around(ada)
        ada.answer()
        ada.teach(EVERY + 5)
        ada.wait_for("learnt", "failed")
        left, pair = ada.shown()
        skipped = left if page.locator(".lt-root.lt-listing").count() else [pair]
        ada.press("s")
        ada.told += [(key(*each), "skip", None) for each in skipped]
        page.reload()
        page.locator(".lt-root").wait_for()
        ada.teach(50)
        ada.wait_for("learnt")
        page.wait_for_function("() => document.querySelectorAll('.lt-row').length === 2")
        for selector in (".lt-stage", ".lt-grades"):
            box = page.locator(selector).bounding_box()
            assert box["y"] + box["height"] <= 800, f"{selector} lies below the fold"
        assert not faults(page)
        shown_now(school, page)
        assert written(school) == ada.told
        with living_in(school):
            learnt = learn_now(find_run("tested"))
        page.get_by_role("button", name="Finish the round").click()
        page.get_by_role("button", name="Yes, finish it").click()
        page.wait_for_function(
            "() => document.querySelector('.lt-progress').textContent.startsWith('0 of')",
            timeout=180_000,
        )
        text = page.locator(".lt-learnt").inner_text()
        assert not said, said
    asked = pd.read_csv(school / "active_learning_labels/tested/redrafted/round_00.csv")
    assert asked.place_learnt.notna().sum() > 12  # lists of both, since something was learnt
    log = (school / LOG).read_text()
    row = pd.read_csv(school / LOG).iloc[0]
    assert row["round"] == 0 and row.asked == len(learnt.grades) and row.evidence == "grades"
    assert ("Search now uses what round 0 taught" in text) == row.promoted
    picture = school / "pictures.jpg"
    draw_house(HOUSES.iloc[0].to_dict(), 128).save(picture)
    found = json.loads(command(school, "search", picture, "--study", "tested", "--json").stdout)
    assert found["model"] == ("head" if row.promoted else "encoder")
    for folder in (
        "active_learning_models/tested",
        "active_learning_results/tested/round_00",
        "vector_dbs/tested/head",
        "active_learning_labels/tested/round_01",
    ):
        shutil.rmtree(school / folder)
    (school / LOG).unlink()
    process = command(school, "run", "tested", *SMALL)
    assert process.returncode == 0 and (school / LOG).read_text() == log, process.stderr
    assert "Round by round" in (school / "report_results/tested/index.html").read_text()
    assert command(school, "check", "--study", "tested").returncode == 0


def take_back_and_look_around(person: Person) -> None:
    """Say that all left of a list are different, take that back as one, and go to the sixth."""
    left, pair = person.shown()
    assert len(left) > 5
    person.press("Enter")
    person.press("u")
    assert person.shown() == (left, pair)
    for act, given in (("grade", 0), ("undo", None)):
        person.told += [(key(*each), act, given) for each in left]
    person.page.keyboard.press("ArrowRight")
    person.page.keyboard.press("ArrowDown")
    person.page.wait_for_function(
        "() => [...document.querySelectorAll('.lt-result')].findIndex("
        "card => card.classList.contains('lt-current')) === 5"
    )


def as_it_was(home: Path, grades: int) -> Path:
    """A copy of a home, with the journal as it was when it held so many grades: the page may have
    learnt before the last of them came.
    """
    then = Path(shutil.copytree(home, home.with_name(f"{home.name}_then")))
    journal = then / "active_learning_labels/tested/journal.csv"
    lines = journal.read_bytes().splitlines(keepends=True)
    for end in range(len(lines), 1, -1):
        journal.write_bytes(b"".join(lines[:end]))
        if (Journal(journal).labels().source != AUTOMATIC).sum() == grades:
            return then
    raise AssertionError(f"the journal never held {grades} grades")


LESSON = """() => {
    const panel = document.querySelector('.lt-learnt'), rows = document.querySelectorAll('.lt-row');
    const learnt = panel.innerText.match(/Learnt from (\\d+) grades/);
    const figures = '.lt-list > .lt-figure figcaption, .lt-stage > .lt-figure figcaption';
    return panel.dataset.state === 'learnt' && learnt && rows.length === 2 && {
        grades: Number(learnt[1]),
        query: document.querySelector(figures).textContent,
        names: [...rows].map(row => [...row.querySelectorAll('img')].map(image => image.title)),
    };
}"""


def shown_now(home: Path, page) -> None:
    """The panel's results are those of the vectors that the grades teach, and of the encoder's."""
    # read in one go, as another lesson may come at any moment
    lesson = page.wait_for_function(LESSON, timeout=120_000).json_value()
    with living_in(as_it_was(home, lesson["grades"])):
        lessons = TeachingSession(find_run("tested"), "tested")
        lessons.taught = learn_now(lessons.run)
        results = lessons.results(lesson["query"])
    expected = [[name for name, _ in results[when]] for when in ("before", "now")]
    assert lesson["names"] == expected


LEARNING = """
import psutil, time
from imgsearch_utils.steps.teaching_session import TeachingSession
from imgsearch_utils.workspace import find_run
if __name__ == "__main__":
    lessons = TeachingSession(find_run("tiny"), "tiny")
    lessons.finish()
    while not psutil.Process().children(recursive=True):
        time.sleep(0.01)
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    time.sleep(600)
"""


@pytest.mark.kill  # two processes load all libraries
def test_what_learns_ends_with_its_killed_server(tmp_path):
    tiny_study.make(tmp_path)
    (tmp_path / "learning.py").write_text(LEARNING)
    server = subprocess.Popen(
        [sys.executable, "learning.py"],
        cwd=tmp_path,
        env=os.environ | {"IMGSEARCH_HOME": str(tmp_path), "PYTHONPATH": str(browser.REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    children = [psutil.Process(int(number)) for number in server.stdout.readline().split()]
    assert children
    server.kill()
    server.wait()
    assert not psutil.wait_procs(children, 30)[1]


def test_what_cannot_be_taught_is_refused_in_a_line(tmp_path):
    process = command(tmp_path, "teach", "grocery")
    assert process.returncode == 1 and "no run is called grocery here" in process.stderr
    study = "study: drawn\nimages: {source: synthetic_houses, per_class: 4}\noracle: rubric\n"
    (tmp_path / "drawn.yaml").write_text(study)
    (tmp_path / "active_learning_labels").mkdir()
    with living_in(tmp_path):
        find_run("drawn.yaml", begin=True)
    process = command(tmp_path, "teach", "drawn.yaml")
    assert process.returncode == 1 and "has an oracle (rubric) that answers" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_rows_of_one_query_are_a_list_and_others_stay_pairs():
    rows = [
        ("a", "b", "random"),
        ("c", "q", "lists"),
        ("q", "r", "lists"),
        ("d", "q", "lists"),
        ("d", "z", "lists"),
        ("e", "z", "lists"),
        ("x", "y", "lists"),
    ]
    table = pd.DataFrame(rows, columns=["image1", "image2", "strategy"])
    assert lists_of(table) == [
        [("a", "b")],
        [("q", "c"), ("q", "r"), ("q", "d")],
        [("z", "d"), ("z", "e")],
        [("x", "y")],
    ]
    long = pd.DataFrame(
        [("q", f"r{n:02}", "lists") for n in range(30)], columns=["image1", "image2", "strategy"]
    )
    assert [len(unit) for unit in lists_of(long)] == [12, 12, 6]
    assert lists_of(table.drop(columns="strategy")) == [[(one, two)] for one, two, _ in rows]
    assert REST not in ("", "yn-")
