"""The search page in a real Chromium, served as a user serves it: pictures in, neighbours out,
votes in the journal.
"""

import functools
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.decoding import MAX_UPLOAD
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.search.service import FORMATS, Service, read_upload
from imgsearch_utils.web.queues import open_queue
from imgsearch_utils.web.search_page import Searching
from imgsearch_utils.workspace import find_run, open_run
from tests import tiny_study
from tests.encoders.test_encoder_names import tiny_clip  # noqa: F401  a fixture
from tests.tiny_study import living_in
from tests.web.chromium import browser, needs_chromium

HTML = '<img src=x onerror="document.title=1">.png'  # must never be anything but a name


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A workspace with the tiny study; one of its pictures has a name that is HTML."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "pictures" / "modern").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 60, 3), np.uint8)).save(
        folder / "pictures" / "modern" / HTML
    )
    tiny_study.make(folder)
    return folder


@pytest.fixture(scope="module")
def server(home):
    """The page, by the command."""
    with browser.ServedPage(home, "serve", "--study=tiny") as server:
        yield server


class Hands:
    """What a user does and sees."""

    def __init__(self, page):
        self.page, self.root, self.status = (
            page,
            page.locator(".sp-root").first,
            page.locator(".sp-status").first,
        )

    def answered(self, act) -> None:
        """Do something that asks, and wait for the answer."""
        before = self.root.get_attribute("data-answered") or ""
        act()
        self.page.locator(f".sp-root[data-answered]:not([data-answered='{before}'])").wait_for()

    def upload(self, name: str, content: bytes) -> None:
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.answered(lambda: self.page.locator("input[type=file]").set_input_files(file))

    def refused(self, name: str, content: bytes) -> str:
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.locator("input[type=file]").set_input_files(file)
        self.page.locator(f".sp-error:has-text('{name}')").wait_for()
        return self.status.inner_text()

    def names(self, model: str) -> list[str]:
        return self.page.locator(f".sp-{model} .sp-name").all_text_contents()

    def card(self, name: str, model: str = "head"):
        return self.page.locator(
            f".sp-{model} .sp-card", has=self.page.get_by_text(name, exact=True)
        )

    def vote(self, name: str, which: str) -> None:
        self.answered(self.card(name).locator(f".sp-{which}").click)


@pytest.fixture(scope="module")
def chrome():
    with browser.browser_page(1320, 1000) as page:
        yield page.context


@pytest.fixture(scope="module")
def hands(chrome, server):
    page = chrome.new_page()
    page.goto(server.url)
    page.locator(".sp-root[data-open]").wait_for(timeout=90_000)
    return Hands(page)


@pytest.fixture(scope="module")
def searchers(home) -> dict[str, Searcher]:
    with living_in(home):
        return {model: Searcher.open(find_run("tiny"), model) for model in ("encoder", "head")}


def bytes_of(searchers, row: int) -> tuple[str, bytes]:
    name = searchers["head"].names[row]
    return name, searchers["head"].collection.path(name).read_bytes()


@needs_chromium
def test_a_picture_of_the_study_finds_itself_first_and_its_neighbours_by_both_models(
    hands, searchers
):
    name, content = bytes_of(searchers, 5)
    hands.upload("holiday.jpg", content)
    for model, searcher in searchers.items():
        expected = searcher.search(searcher.vectors_of([name]), 12)
        assert hands.names(model) == expected.image.tolist() and expected.image[0] == name
        cards = hands.page.locator(f".sp-{model} .sp-card")
        assert cards.locator(".sp-class").all_text_contents() == expected["class"].tolist()
        shown = [float(text) for text in cards.locator(".sp-score").all_text_contents()]
        np.testing.assert_allclose(shown, expected.score, atol=6e-4)
        shown = cards.evaluate_all("cards => cards.map(card => Number(card.dataset.p))")
        np.testing.assert_allclose(shown, expected.p_similar, atol=1e-4)
        far = cards.evaluate_all("cards => cards.map(card => card.classList.contains('sp-far'))")
        assert [not dim for dim in far] == expected.close.tolist()
    assert f"is {name} of the study" in hands.page.locator(".sp-caption").inner_text()
    assert (
        "37 images · run tiny · efficientnet_lite0 and its head"
        in hands.page.locator(".sp-title").inner_text()
    )
    # and no field for them:
    assert hands.page.get_by_text("words need an open_clip encoder").count() == 1
    assert not hands.page.locator(".sp-text").is_visible()
    assert (
        "Search uses the head, taught by the grades: "
        in hands.page.locator(".sp-which .sp-hint").inner_text()
    )
    for which, seen in (
        ("Encoder", [True, False]),
        ("Head", [False, True]),
        ("Both", [True, True]),
    ):
        hands.page.locator(".sp-switches").get_by_text(which).click()
        assert [
            hands.page.locator(f".sp-column.sp-{model}").is_visible() for model in searchers
        ] == seen
    hands.page.wait_for_function(
        "() => [...document.querySelectorAll('.sp-grid img')].length === 24"
    )
    hands.card(hands.names("head")[1]).locator(".sp-picture").click()
    hands.page.wait_for_function("() => document.querySelectorAll('dialog[open] img').length === 2")
    hands.page.keyboard.press("Escape")


@needs_chromium
def test_threshold_and_number_of_results_are_the_users(hands, searchers):
    hands.upload(*bytes_of(searchers, 5))
    sliders = hands.page.locator(".sp-slider input")
    calibrated = hands.page.locator(".sp-far").count()
    sliders.nth(1).fill("1")
    assert hands.page.locator(".sp-far").count() == 24
    assert "No close match" in hands.page.locator(".sp-head .sp-none").inner_text()
    sliders.nth(1).fill("0")
    assert (
        hands.page.locator(".sp-far").count() == 0
        and not hands.page.locator(".sp-head .sp-none").is_visible()
    )
    hands.page.get_by_text("as calibrated").click()
    assert hands.page.locator(".sp-far").count() == calibrated
    hands.answered(lambda: sliders.nth(0).fill("3"))
    assert len(hands.names("encoder")) == len(hands.names("head")) == 3
    hands.answered(lambda: sliders.nth(0).fill("60"))
    assert len(hands.names("encoder")) == 37
    hands.answered(lambda: sliders.nth(0).fill("12"))


@needs_chromium
def test_more_ways_to_search_are_those_of_the_command(hands, searchers):
    name, content = bytes_of(searchers, 7)
    ways = hands.page.locator(".sp-more-ways")
    hands.upload("seen.jpg", content)
    hands.page.locator(".sp-slider input").nth(0).fill("12")
    ways.locator("summary").click()
    hands.answered(lambda: ways.locator("select").select_option("5"))
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    for model, searcher in searchers.items():
        expected = searcher.search(searcher.encode([picture], crops=5), 12)
        assert hands.names(model) == expected.image.tolist()
    hands.answered(lambda: ways.locator("select").select_option("1"))
    where = ways.locator(".sp-where")
    assert where.get_attribute("placeholder").startswith("class = '")

    def only(condition: str) -> None:
        where.fill(condition)
        where.press("Enter")

    hands.answered(lambda: only("class = 'modern' AND image <> 'x'"))
    for model, searcher in searchers.items():
        rows = searcher.only("class = 'modern'")
        expected = searcher.search(searcher.vectors_of([name]), 12, allowed=rows)
        assert hands.names(model) == expected.image.tolist() and set(expected["class"]) == {
            "modern"
        }
    only("class = 'none'")
    hands.page.locator(".sp-error:has-text('no picture is left where')").wait_for()
    only("kind of house")
    hands.page.locator(".sp-error:has-text('the columns are image, class')").wait_for()
    hands.answered(lambda: only(""))
    assert not hands.page.locator(".sp-back").is_visible() or hands.names("head")[0] == name
    ways.locator("summary").click()


@needs_chromium
def test_more_like_this_goes_on_and_back_returns(hands, searchers):
    name, content = bytes_of(searchers, 20)
    hands.upload("a.png", content)
    first = hands.names("head")
    hands.answered(lambda: hands.card(first[2]).get_by_text("More like this").click())
    searcher = searchers["head"]
    assert (
        hands.names("head") == searcher.search(searcher.vectors_of([first[2]]), 12).image.tolist()
    )
    assert hands.names("head")[0] == first[2] == hands.page.locator(".sp-caption b").inner_text()
    hands.answered(lambda: hands.page.get_by_text("← back").click())
    assert hands.names("head") == first
    hands.answered(lambda: hands.page.locator(".sp-slider input").nth(0).fill("37"))
    hands.answered(
        lambda: hands.card(f"modern/{HTML}", "encoder").get_by_text("More like this").click()
    )
    assert hands.names("encoder")[0] == f"modern/{HTML}" and hands.page.title() != "1"
    hands.answered(lambda: hands.page.locator(".sp-slider input").nth(0).fill("12"))


@needs_chromium
def test_votes_rank_anew_and_land_in_the_journal_as_pairs_to_grade(
    hands, searchers, home, monkeypatch
):
    monkeypatch.setenv("IMGSEARCH_HOME", str(home))
    run = find_run("tiny")
    journal = Journal(run.journal)
    name, content = bytes_of(searchers, 9)
    hands.upload("a.png", content)
    one, two, three = hands.names("head")[1:4]
    hands.vote(one, "up")
    hands.vote(two, "down")
    hands.vote(three, "up")
    marked = [
        thumb.get_attribute("title").split(":")[0]
        for thumb in hands.page.locator(".sp-marks button").all()
    ]
    assert marked == [one, three, two] and "saved, and ranked anew" in hands.status.inner_text()
    hands.answered(hands.page.locator(".sp-marks button").nth(1).click)  # takes it back
    for model, searcher in searchers.items():
        like, unlike = (searcher.vectors_of([other]) for other in (one, two))
        expected = searcher.search(searcher.vectors_of([name]), 12, like=like, unlike=unlike)
        assert hands.names(model) == expected.image.tolist()
        shown = hands.page.locator(f".sp-{model} .sp-card").evaluate_all(
            "all => all.map(one => Number(one.dataset.p))"
        )
        np.testing.assert_allclose(shown, expected.p_similar, atol=1e-4)
    acts = [(act.annotator, {act.image1, act.image2}, act.act) for act in journal.acts()]
    assert acts == [
        ("visitor", {name, one}, "vote_up"),
        ("visitor", {name, two}, "vote_down"),
        ("visitor", {name, three}, "vote_up"),
        ("visitor", {name, three}, "unvote"),
    ]
    # of the round after the one made
    assert {(act.source, act.round) for act in journal.acts()} == {("vote", 1)}
    assert journal.labels().empty and journal.standing() == []
    assert "2 voted pairs wait to be graded" in hands.page.locator(".sp-votes").inner_text()
    queue = open_queue(run, "votes", 0)
    assert [set(pair) for pair in queue[["image1", "image2"]].to_numpy()] == [
        {name, two},
        {name, one},
    ]
    hands.answered(
        lambda: hands.page.locator(".sp-person").fill("Ann <b>") or hands.page.keyboard.press("Tab")
    )
    assert hands.page.locator(".sp-card[data-vote='up']").count() == 0  # Ann's votes are her own
    hands.vote(one, "down")
    assert journal.acts()[-1].annotator == "Ann <b>"
    assert open_queue(run, "votes", 0).iloc[0][["up", "down"]].tolist() == [1, 1]
    journal.append("bob", name, two, "grade", grade=2)
    hands.vote(two, "up")
    assert "graded 2 already, and the grade stands" in hands.status.inner_text()
    hands.answered(
        lambda: hands.page.locator(".sp-person").fill("") or hands.page.keyboard.press("Tab")
    )
    assert hands.card(one).get_attribute("data-vote") == "up"


@needs_chromium
def test_votes_on_the_results_of_a_picture_from_elsewhere_rank_anew_and_are_not_kept(
    hands, home, searchers
):
    file = tiny_study.draw(home.parent, 12)  # of a house that is not in the study
    hands.upload(HTML, file.read_bytes())
    searcher = searchers["head"]
    vectors, found = searcher.encode([Image.open(file).convert("RGB")]), hands.names("head")
    assert found == searcher.search(vectors, 12).image.tolist()
    assert hands.page.locator(".sp-caption b").inner_text() == HTML and hands.page.title() != "1"
    assert "are forgotten with it" in hands.page.locator(".sp-caption").inner_text()
    journal = Journal(home / "active_learning_labels" / "tiny" / "journal.csv")
    before = journal.acts()
    hands.vote(found[2], "up")
    hands.vote(found[0], "down")
    like, unlike = searcher.vectors_of([found[2]]), searcher.vectors_of([found[0]])
    assert (
        hands.names("head") == searcher.search(vectors, 12, like=like, unlike=unlike).image.tolist()
    )
    hands.vote(found[2], "up")
    hands.vote(found[0], "down")
    assert hands.names("head") == found and not hands.page.locator(".sp-marks").is_visible()
    assert journal.acts() == before


DROP = """([name, size]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(size)], name));
    document.querySelector(".sp-root").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
}"""


@needs_chromium
def test_uploads_that_are_no_picture_or_too_large_get_one_kind_line(hands, searchers):
    name, content = bytes_of(searchers, 5)
    hands.upload("good.jpg", content)
    before = hands.names("head")
    assert hands.refused("notes.txt", b"no picture") == (
        "“notes.txt”: not a picture that can be read; try a JPEG or PNG"
    )
    assert "an empty file" in hands.refused("empty.png", b"")
    assert "truncated" in hands.refused("half.jpg", content[: len(content) // 2])
    hands.page.evaluate(DROP, ["huge.png", MAX_UPLOAD + 1])
    hands.page.locator(".sp-error:has-text('huge.png')").wait_for()
    assert hands.status.inner_text() == "“huge.png”: more than 20 MB; make it smaller first"
    assert hands.names("head") == before
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 1000, 3), np.uint8)).save(
        large, "BMP"
    )
    hands.upload("parts.bmp", large.getvalue())  # in several messages, and shown as a JPEG
    assert hands.page.locator(".sp-caption b").inner_text() == "parts.bmp"


@needs_chromium
def test_the_page_goes_on_after_its_server_was_killed_and_a_vote_is_written_once(
    hands, searchers, home, server
):
    name, content = bytes_of(searchers, 3)
    hands.upload("a.png", content)
    found = hands.names("head")
    journal = Journal(home / "active_learning_labels" / "tiny" / "journal.csv")
    before = len(journal.acts())
    server.kill()
    hands.page.locator("#notice:has-text('The server has stopped')").wait_for(timeout=3000)
    assert (
        f"imgsearch serve --study tiny --port {server.port}"
        in hands.page.locator("#notice").inner_text()
    )
    hands.card(found[1]).locator(".sp-up").click()
    server.start()
    hands.page.locator(f".sp-card[data-vote='up'] .sp-name:text-is('{found[1]}')").first.wait_for(
        timeout=60_000
    )
    # of the answer to what was shown, asked again
    hands.page.locator(".sp-marks button").wait_for(timeout=60_000)
    searcher = searchers["head"]
    expected = searcher.search(
        searcher.vectors_of([name]), 12, like=searcher.vectors_of([found[1]])
    ).image.tolist()
    assert hands.names("head") == expected and not hands.page.locator("#notice").is_visible()
    acts = journal.acts()[before:]
    assert [({act.image1, act.image2}, act.act) for act in acts] == [({name, found[1]}, "vote_up")]


@needs_chromium
def test_a_server_with_another_token_is_not_the_pages_own(hands, server):
    old, server.token = server.token, "another-token-of-the-test"
    server.kill()
    server.start()
    hands.page.locator("#notice:has-text('open the address that it printed')").wait_for(
        timeout=60_000
    )
    server.token = old
    server.kill()
    server.start()
    hands.page.locator("#notice").wait_for(state="hidden", timeout=60_000)


WITH_WORDS = """\
import open_clip
from imgsearch_utils.cli import entry
open_clip.add_model_config({config!r})
entry()
"""


@needs_chromium
def test_words_where_the_encoder_reads_them(tmp_path, chrome, tiny_clip, monkeypatch):
    with_words = tmp_path / "words"
    with_words.mkdir()
    tiny_study.make(with_words, encoder=f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}")
    (with_words / "with_words.py").write_text(
        WITH_WORDS.format(config=str(tiny_clip[1] / "tiny-clip.json"))
    )
    monkeypatch.setenv("IMGSEARCH_HOME", str(with_words))
    page = chrome.new_page()
    with browser.ServedPage(with_words, "serve", "--study=tiny", module="with_words") as server:
        page.goto(server.url)
        hands = Hands(page)
        page.locator(".sp-root[data-open]").wait_for(timeout=90_000)
        page.locator(".sp-text").first.fill("a red house")
        hands.answered(lambda: page.keyboard.press("Enter"))
        searcher = Searcher.open(find_run("tiny"), "encoder")
        expected = searcher.search(searcher.encode_texts(["a red house"]), 12, calibrated=False)
        assert hands.names("encoder") == expected.image.tolist()
        assert page.locator(".sp-far, .sp-meter").count() == 0  # P(similar) is not known of words
    page.close()


def test_odd_votes_and_ways_to_search_are_a_line_and_nothing_is_written(home):
    with living_in(home):
        run, sent = find_run("tiny"), []
        page = Searching(
            run, functools.cache(lambda: Service(run)), lambda message, *_: sent.append(message)
        )
        page.receive({"kind": "hello", "name": "ann"})
        searcher, before = Searcher.open(run), Journal(run.journal).acts()
        name = searcher.names[3]
        vote = {"kind": "vote", "serial": 1, "row": 3, "vote": "up"}
        upload = {"kind": "upload", "serial": 1, "file": "a.jpg", "part": 0, "last": True}
        upload["name"] = "ann"
        for message, said in (
            (vote | {"query": 3, "names": [name, name]}, "the query itself"),
            (vote | {"query": None, "names": [None, name]}, "this query is gone"),
            (vote | {"query": 3, "names": ["other", name]}, "have changed"),
            (vote | {"query": -1, "names": [name, name]}, "no image of this page"),
            (upload | {"crops": 11}, "crops must be 1 to 10"),
            (upload | {"crops": "all"}, "not a message"),
            (upload | {"where": "1;"}, "no condition"),
        ):
            page.receive(message, [searcher.collection.path(name).read_bytes()])
            assert sent[-1]["kind"] == "error" and said in sent[-1]["line"], message
        assert Journal(run.journal).acts() == before


def test_a_run_that_has_nothing_is_a_line_on_the_page(home):
    with living_in(home):
        said, run = [], open_run("tiny", "begun_only")
        page = Searching(
            run, lambda: Service(run), lambda content, buffers=(): said.append(content)
        )
        page.receive({"kind": "hello", "name": "visitor"})
    assert said[0]["fatal"] and "run begun_only has no vectors yet" in said[0]["line"]


@settings(max_examples=150)
@given(st.sampled_from([*FORMATS, "PCX", "EPS"]), st.data())
def test_any_bytes_are_a_picture_or_one_line_without_a_path(kind, data):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 20)).convert("RGB").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    broken = data.draw(st.booleans())
    if broken:
        for place, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))
        ):
            content[place] = value
        del content[data.draw(st.integers(0, len(content))) :]
    try:
        picture = read_upload(bytes(content))
    except ValueError as error:
        assert broken or kind in ("PCX", "EPS")
        assert (
            "\n" not in str(error)
            and tempfile.gettempdir() not in str(error)
            and "object at" not in str(error)
        )
    else:
        assert picture.mode == "RGB" and kind not in ("PCX", "EPS")


def test_what_is_too_large_is_refused_before_it_is_decoded():
    with pytest.raises(ValueError, match="more than 20 MB"):
        read_upload(b"0" * (MAX_UPLOAD + 1))
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(ValueError, match="20000 x 20000 pixels, more than"):
        read_upload(bomb.getvalue())
