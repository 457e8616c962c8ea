"""The tagger in a real Chromium, in JupyterLab and as a page: what the screen acknowledged is in
the journal.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.labels.pairs import key
from imgsearch_utils.pages.order import make_queue
from imgsearch_utils.pages.pictures import picture_bytes
from imgsearch_utils.pages.tagger import Task, contact_sheet
from imgsearch_utils.pictures.collection import Collection, read_collection
from imgsearch_utils.study import ImageSettings, Rubric, read_study
from tests.pages.chromium import browser, needs_chromium

HOUSES = read_study(browser.REPOSITORY / "configs" / "synthetic_houses.yaml").rubric
HTML = "<b class=injected>&amp;</b><img src=x onerror='document.title=2'>"


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def lab(studies):
    with browser.lab(studies) as address:
        yield address


@pytest.fixture
def served(studies):
    """Starts the page of a study, or starts it again, and gives its address."""
    running = []

    def start(name: str) -> str:
        if running:
            running[-1].__exit__()
        running.append(browser.ServedPage(studies / name).start())
        return running[-1].url

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def page():
    with browser.browser_page() as page:
        page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"
        yield page


@pytest.fixture
def begin(studies, served, page):
    """Draws a study, opens its page and begins to grade: the study's folder."""

    def of(name: str, **study) -> Path:
        browser.draw_study(studies / name, annotator="ann", repeats=0, **study)
        page.goto(served(name))
        browser.start_grading(page, "ann")
        return studies / name

    return of


def shown(page):
    """The two names on screen, as a pair."""
    return key(*page.locator(".lt-figure figcaption").all_inner_texts())


def label(page, script):
    """Press the keys one by one; return the acts that the journal should hold."""
    acts = []
    for pressed in script:
        browser.ready(page)
        before = shown(page)
        browser.press(page, pressed)
        if pressed == "u":
            browser.ready(page)
            acts.append((*shown(page), "undo", None))
        else:
            act = {"s": "skip", "r": "unsure"}.get(pressed, "grade")
            acts.append((*before, act, int(pressed) if act == "grade" else None))
    return acts


def written(folder):
    return [
        (act.image1, act.image2, act.act, act.grade)
        for act in Journal(folder / "journal.csv").acts()
    ]


@needs_chromium
def test_twenty_grades_undo_skip_reload_and_on_in_jupyterlab(lab, studies, page):
    browser.draw_study(studies / "lab", images=8, pairs=28, repeats=0.2)

    def arrive():
        page.goto(lab.format(path="lab/tag.ipynb"))
        browser.run_cell(page)
        browser.start_grading(page, "Ann <b>")

    twenty_grades_undo_skip_reload_and_on(studies / "lab", page, arrive)


@needs_chromium
def test_twenty_grades_undo_skip_reload_and_on_as_a_page(studies, page):
    browser.draw_study(studies / "page", images=8, pairs=28, repeats=0.2)
    with browser.ServedPage(studies / "page") as server:

        def arrive():
            page.goto(server.url)
            browser.start_grading(page, "Ann <b>")

        twenty_grades_undo_skip_reload_and_on(studies / "page", page, arrive)


def twenty_grades_undo_skip_reload_and_on(folder, page, arrive):
    arrive()
    assert page.locator(".lt-person").inner_text() == "Ann <b>"
    # 0 0 would restart JupyterLab's kernel
    acts = label(page, "32103210001122330123" + "uuu" + "ss")
    assert written(folder) == acts
    assert page.locator(".lt-progress b").inner_text() == "19 of 34"  # 28 pairs and 6 repeats
    arrive()  # the name is not asked again
    assert page.locator(".lt-progress b").inner_text() == "19 of 34"
    acts += label(page, "3ru2")
    page.keyboard.press("ArrowLeft")
    page.locator(".lt-root[data-standing='2']").wait_for()
    acts += label(page, "1")  # corrects the 2
    page.keyboard.press("z")
    page.locator("dialog[open]").wait_for()
    acts += label(page, "0")
    page.keyboard.press("z")
    assert page.locator("dialog[open]").count() == 0
    acts += label(page, "u")
    while not page.locator(".lt-over").count():
        acts += label(page, "2")
    assert written(folder) == acts
    done = pd.read_csv(folder / "pairs.csv")
    labels = Journal(folder / "journal.csv").labels()
    skipped = 2
    # a skipped pair may come again as a repeat
    assert len(labels) in (len(done), len(done) - 1, len(done) - skipped)
    assert "Agreement with yourself" in page.locator(".lt-agreement").inner_text()
    # names are not HTML
    assert page.title() != "1" and page.locator(".lt-root figcaption img").count() == 0


@needs_chromium
def test_questions_propose_a_grade_by_the_rule_of_thirds(begin, page):
    folder = begin("rubric", images=4, pairs=6, rubric=HOUSES)
    # a small laptop shows all of the questions
    page.set_viewport_size({"width": 1280, "height": 800})
    last = page.locator(".lt-question").last.bounding_box()
    assert last["y"] + last["height"] < 800
    proposed = page.locator(".lt-grade.lt-proposed kbd")
    for question, presses, grade in (
        (1, 1, "3"),
        (2, 2, "2"),
        (3, 2, "2"),
        (4, 2, "1"),
        (5, 1, "2"),
        (4, 1, "2"),
    ):
        for _ in range(presses):
            page.keyboard.press(f"Shift+Digit{question}")
        assert proposed.inner_text() == grade  # y; y n; y n n; y n n n; y n n n y; y n n - y
    page.locator(".lt-question").nth(1).click()
    page.locator(".lt-question").nth(2).click()
    assert proposed.inner_text() == "3"  # y - - - y
    browser.press(page, "Enter")
    act = Journal(folder / "journal.csv").acts()[-1]
    assert (act.act, act.grade, act.answers, act.annotator) == ("grade", 3, "y---y----", "ann")
    page.locator("button.lt-grade-1").click()
    page.locator(".lt-root[data-acknowledged='2']").wait_for()
    browser.ready(page)
    browser.press(page, "s")  # after the mouse, the keys still work
    assert [act.grade for act in Journal(folder / "journal.csv").acts()] == [3, 1, None]


@needs_chromium
def test_two_tabs_keep_every_grade_and_nothing_outside_the_folder_is_sent(served, studies, page):
    folder = studies / "tabs"
    browser.draw_study(folder, images=6, pairs=15, annotator="ann", repeats=0)
    address = served("tabs")
    page.goto(address)
    other = page.context.new_page()
    other.goto(address)
    acts = []
    for tab, keys in ((page, "3"), (other, "10"), (page, "2u"), (other, "s1"), (page, "20")):
        browser.start_grading(tab, "ann")
        acts += label(tab, keys)
    assert written(folder) == acts
    other.close()
    Image.new("RGB", (9, 9)).save(folder / "secret.png")
    browser.write_tagger(
        folder, pd.DataFrame({"image1": ["../secret.png"], "image2": ["0001.png"]}), annotator="ann"
    )
    page.goto(served("tabs"))
    page.locator(".lt-broken").wait_for()
    assert "leads out of the data folder" in page.locator(".lt-broken p").inner_text()
    assert str(folder) not in page.locator(".lt-broken p").inner_text()


def texts(page, selector):
    return page.locator(f".lt-root {selector}").all_inner_texts()


@needs_chromium
def test_the_rubric_of_the_study_is_shown_and_its_version_written(begin, served, page):
    rubric = Rubric(
        title="Which boats belong together?",
        questions=("The same sails", "The same hull"),
        rule="thirds",
        grades=("strangers", "cousins", "sisters", "twins"),
        hints=("no yes", "one", "two", "all"),
        ignored="the weather",
        version="7b",
    )
    folder = begin("boats", images=5, pairs=10, rubric=rubric)
    assert texts(page, ".lt-title") == [rubric.title]
    assert texts(page, ".lt-question") == list(rubric.questions)
    assert texts(page, ".lt-grade b") == list(rubric.grades)
    assert texts(page, ".lt-grade small") == list(rubric.hints)
    assert texts(page, ".lt-ignored") == ["Does not count: the weather"]
    everything = page.locator(".lt-root").evaluate("root => root.outerHTML").lower()
    assert not [
        word
        for word in ("house", "floor", "roof", "garden", "similar", "alike")
        if word in everything
    ]
    page.keyboard.press("Shift+Digit1")
    page.keyboard.press("Shift+Digit3")  # there is no third question
    browser.press(page, "Enter")
    assert page.locator(".lt-status").inner_text() == "saved: 3, twins"
    browser.ready(page)
    browser.press(page, "s")
    browser.ready(page)
    browser.press(page, "u")
    acts = Journal(folder / "journal.csv").acts()
    assert [(act.act, act.grade, act.answers, act.rubric) for act in acts] == [
        ("grade", 3, "y-", "7b"),
        ("skip", None, "", "7b"),
        ("undo", None, "", "7b"),
    ]
    page.keyboard.press("ArrowLeft")
    page.locator(".lt-root[data-standing='3'] .lt-question[data-answer='y']").wait_for()
    # other questions: the answers given before are not theirs
    other = rubric.model_copy(update={"version": "8"})
    browser.write_tagger(
        folder, pd.read_csv(folder / "pairs.csv"), other, annotator="ann", repeats=0
    )
    page.goto(served("boats"))
    browser.start_grading(page, "ann")
    page.keyboard.press("ArrowLeft")
    page.locator(".lt-root[data-standing='3'] .lt-question[data-answer='-']").first.wait_for()
    assert page.locator(".lt-question[data-answer='y'], .lt-proposed").count() == 0


@needs_chromium
def test_without_a_rule_the_questions_are_a_checklist_and_enter_writes_nothing(begin, page):
    folder = begin("checklist", images=4, pairs=6, rubric=Rubric(questions=("One", "Two")))
    for question in (1, 2, 2):
        page.keyboard.press(f"Shift+Digit{question}")
    assert page.locator(".lt-question[data-answer='y']").count() == 1
    assert page.locator(".lt-question[data-answer='n']").count() == 1
    assert page.locator(".lt-proposed").count() == 0 and texts(page, ".lt-proposal") == [""]
    page.keyboard.press("Enter")
    browser.press(page, "1")  # an act of Enter would have come before it
    assert [(act.grade, act.answers) for act in Journal(folder / "journal.csv").acts()] == [
        (1, "yn")
    ]


@needs_chromium
def test_a_study_without_a_rubric_shows_no_questions_and_needs_none(begin, page):
    folder = begin("neutral", images=4, pairs=6)
    assert texts(page, ".lt-title") == [Rubric().title] and texts(page, ".lt-grade b") == list(
        Rubric().grades
    )
    for part in (".lt-rubric", ".lt-ignored", ".lt-grade small"):
        assert not page.locator(part).first.is_visible()
    assert "house" not in page.locator(".lt-root").inner_text().lower()
    page.keyboard.press("Shift+Digit1")
    page.keyboard.press("Enter")
    browser.press(page, "2")
    assert [
        (act.grade, act.answers, act.rubric) for act in Journal(folder / "journal.csv").acts()
    ] == [(2, "", "1")]


@needs_chromium
def test_html_in_a_rubric_stays_text(begin, page):
    rubric = Rubric(
        title=HTML,
        questions=(HTML, HTML),
        rule="thirds",
        grades=(HTML,) * 4,
        hints=(HTML,) * 4,
        ignored=HTML,
        version=HTML,
    )
    folder = begin("html", images=4, pairs=6, rubric=rubric)
    browser.press(page, "2")
    browser.ready(page)
    assert page.locator(".lt-status").inner_text() == f"saved: 2, {HTML}"
    for part in (".lt-title", ".lt-question", ".lt-grade b", ".lt-grade small"):
        assert set(texts(page, part)) == {HTML}
    assert page.locator(".injected, .lt-root img[src=x]").count() == 0 and page.title() != "2"
    assert Journal(folder / "journal.csv").acts()[0].rubric == HTML


def a_collection(folder: Path) -> Collection:
    for name in "abc":
        Image.new("RGB", (30, 20), "teal").save(folder / f"{name}.png")
    return read_collection(folder, ImageSettings(source=str(folder)))


@given(st.integers(1, 60), st.integers(0, 3), st.sampled_from([0, 0.1, 0.5]))
def test_the_queue_asks_each_pair_once_and_a_share_again_later_turned_round(n, seed, repeats):
    pairs = pd.DataFrame({"image1": "a", "image2": [f"b{i}" for i in range(n)]})
    queue = make_queue(pairs, seed, "ann", repeats)
    first = {item.pair: i for i, item in enumerate(queue) if item.source == "person"}
    again = {item.pair: i for i, item in enumerate(queue) if item.source == "repeat"}
    assert len(first) == n and len(first) + len(again) == len(queue)
    assert len(again) == min(round(repeats * n), n // 2)
    for pair, i in again.items():
        assert i > first[pair] and queue[i].left == queue[first[pair]].right
        assert i - first[pair] >= n // 4
    assert queue == make_queue(pairs, seed, "ann", repeats)
    if n > 20:
        assert queue != make_queue(pairs, seed + 1, "ann", repeats) and queue != make_queue(
            pairs, seed, "bob", repeats
        )
        assert 0 < sum(item.left == "a" for item in queue) < len(queue)


def test_pictures_are_sent_as_they_are_or_smaller_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    small, large, odd = tmp_path / "small.jpg", tmp_path / "large.png", tmp_path / "odd.tif"
    Image.new("RGB", (40, 30), "red").save(small)
    Image.fromarray(rng.integers(0, 255, (900, 2400, 3), np.uint8)).save(large)
    Image.new("I;16", (50, 40), 40_000).save(odd)
    assert picture_bytes(small) == small.read_bytes()
    for path, width in ((large, 1600), (odd, 50)):
        (tmp_path / "sent").write_bytes(picture_bytes(path))
        with Image.open(tmp_path / "sent") as sent:
            assert (sent.format, sent.mode, sent.width) == ("JPEG", "RGB", width)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="empty.png"):
        picture_bytes(tmp_path / "empty.png")


def test_a_study_without_pictures_or_pairs_is_refused(tmp_path):
    collection = a_collection(tmp_path)
    pairs = pd.DataFrame({"image1": ["a.png"], "image2": ["b.png"]})
    with pytest.raises(ValueError, match="no pair to show"):
        Task(pairs[:0], collection, Journal(tmp_path / "journal.csv"))
    vectors_only = Collection(collection.images, [], None, None, collection.set_aside)
    with pytest.raises(ValueError, match="vectors only"):
        Task(pairs, vectors_only, Journal(tmp_path / "journal.csv"))


def test_a_static_sheet_stands_in_for_the_widget(tmp_path):
    pairs = pd.DataFrame(
        {"image1": ["a.png", "a.png"], "image2": ["b.png", "gone.png"], "similarity": [3, np.nan]}
    )
    figure = contact_sheet(pairs, a_collection(tmp_path))
    assert [text.get_text() for text in figure.axes[0].texts][:2] == ["grade 3", "not graded yet"]
