"""The map in a real Chromium, beside the search page: hover, lasso, colours, and where a selection
goes.
"""

import functools

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.search.service import Service
from imgsearch_utils.steps.collection_map import SELECTION, facts
from imgsearch_utils.web.map_page import Mapped
from imgsearch_utils.web.queues import open_queue
from imgsearch_utils.workspace import find_run
from imgsearch_utils.workspace.tables import read_table
from tests import tiny_study
from tests.tiny_study import living_in
from tests.web.chromium import browser, faults, needs_chromium

pytest.importorskip("plotly", reason="needs plotly: pip install -e '.[map]'")
HTML = '<img src=x onerror="document.title=1">.png'  # must never be anything but a name
PLACES = """() => {
  const plot = document.querySelector('.js-plotly-plot'), { xaxis, yaxis } = plot._fullLayout;
  const { left, top } = plot.getBoundingClientRect(), { x, y } = plot.data[0];
  const place = (axis, value) => axis._offset + axis.d2p(value);
  return Array.from(x).map((each, row) => [left + place(xaxis, each), top + place(yaxis, y[row])]);
}"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with the tiny study, a picture with a name that is HTML, and a few grades."""
    folder = tmp_path_factory.mktemp("map")
    (folder / "pictures" / "modern").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 60, 3), np.uint8)).save(
        folder / "pictures" / "modern" / HTML
    )
    run = tiny_study.make(folder)
    with living_in(folder):
        names = Service(run).used.names
        graded = pd.DataFrame(
            {"image1": names[:3], "image2": names[3:6], "similarity": [0.0, 2.0, 3.0]}
        )
        Journal(run.journal).append_many(graded, "ann", "person", 0)
    return folder


@pytest.fixture(scope="module")
def page(home):
    with (
        browser.ServedPage(home, "serve", "--study=tiny") as server,
        browser.browser_page(1280, 900) as page,
    ):
        page.goto(server.url)
        page.get_by_role("link", name="Map").click(timeout=90_000)
        drawn(page)
        yield page


def drawn(page, points="head pca", coloured="class"):
    page.locator(f".mp-root[data-points='{points}'][data-coloured='{coloured}']").wait_for(
        timeout=90_000
    )
    page.locator(".mp-status:not(.mp-waiting)").wait_for(state="attached")


def names_of(home):
    with living_in(home):
        return Service(find_run("tiny")).used.names


def chosen(page) -> int:
    return int(page.locator(".mp-root").get_attribute("data-selected"))


def lasso(page, rows, corner=14):
    """Draw a rectangle around the points of these rows; which rows lie in it."""
    places = np.array(page.evaluate(PLACES))
    low, high = places[rows].min(0) - corner, places[rows].max(0) + corner
    page.get_by_role("button", name="Select", exact=True).click()
    page.mouse.move(*low)
    page.mouse.down()
    for x, y in ((high[0], low[1]), tuple(high), (low[0], high[1]), (low[0], low[1] + 2)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    within = np.flatnonzero(((places > low) & (places < high)).all(1))
    page.locator(f".mp-root[data-selected='{len(within)}']").wait_for()
    return within


@needs_chromium
def test_pointing_at_a_point_shows_its_picture_and_what_is_known(page, home):
    names, places = names_of(home), page.evaluate(PLACES)
    alone = max(
        range(len(places)),
        key=lambda row: min(
            np.hypot(*np.subtract(places[row], other))
            for at, other in enumerate(places)
            if at != row
        ),
    )
    page.mouse.move(*places[alone])
    page.locator(f".mp-root[data-shown='{alone}'] .mp-shown img").wait_for()
    page.locator(".mp-shown", has_text=names[alone]).wait_for()
    known = page.locator(".mp-shown dl").inner_text()
    assert "side" in known and "grades" in known
    assert page.locator(".mp-shown a").get_attribute("href") == f"/#like={alone}"


@needs_chromium
def test_a_lasso_selects_and_its_train_images_wait_in_the_tagger(page, home):
    within, names = lasso(page, [2, 9, 20]), names_of(home)
    page.get_by_role("button", name="Grade pairs of these").click()
    page.locator(f".mp-root[data-queued='{len(within)}']").wait_for()
    assert "imgsearch tag tiny --queue map" in page.locator(".mp-next").inner_text()
    with living_in(home):
        run = find_run("tiny")
        assert set(read_table(run.labels / SELECTION).image) == {names[row] for row in within}
        pairs = open_queue(run, "map", 0)
        splits = pd.read_csv(run.labels / "images.csv").set_index("image").side
        train = {names[row] for row in within if splits[names[row]] == "train"}
        asked = {*pairs.image1, *pairs.image2}
        assert len(pairs) and asked <= train
        graded = Journal(run.journal).labels()
        assert not set(zip(pairs.image1, pairs.image2)) & set(zip(graded.image1, graded.image2))
        served = browser.ServedPage(home, "tag", "tiny", "--queue=map")
        with served as tagger:
            tab = page.context.new_page()
            tab.goto(tagger.url)
            browser.start_grading(tab, "ann")
            browser.press(tab, "2")
            tab.close()
        [act] = [
            act
            for act in Journal(run.journal).acts()
            if {act.image1, act.image2} <= train and act.round == 1
        ]
        assert act.grade == 2 and act.annotator == "ann"


@needs_chromium
def test_a_selection_is_a_file(page, home, tmp_path):
    within, names = lasso(page, [0, 5]), names_of(home)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as CSV").click()
    file = tmp_path / "selection.csv"
    waiting.value.save_as(file)
    table = read_table(file)
    assert table.image.tolist() == [names[row] for row in within] and {
        "class",
        "side",
        "grades",
    } <= set(table)


@needs_chromium
def test_colours_by_keyboard_select_and_layouts_change(page, home):
    page.get_by_role("button", name="modern", exact=True).press("Enter")
    with living_in(home):
        labels = Service(find_run("tiny")).used.labels.table()
    assert chosen(page) == (labels["class"] == "modern").sum()
    page.get_by_role("button", name="Clear").click()
    page.locator(".mp-root[data-selected='0']").wait_for()
    page.locator("select").nth(1).select_option("encoder")
    drawn(page, "encoder pca")
    page.locator("select").nth(2).select_option("grades")
    drawn(page, "encoder pca", "grades")
    if page.locator("select").nth(0).locator("option[value=umap]").count():
        page.locator("select").nth(0).select_option("umap")
        drawn(page, "encoder umap", "grades")
    page.locator("select").nth(0).select_option("pca")
    page.locator("select").nth(1).select_option("head")
    page.locator("select").nth(2).select_option("class")
    drawn(page)


CELLS = [
    """\
from imgsearch_utils import workspace
from imgsearch_utils.web import MapPage

page = MapPage(workspace.find_run("tiny"))
page""",
    "print(len(page.selected), 'are selected')",
]


@needs_chromium
def test_the_same_page_in_a_notebook_gives_its_selection_to_python(page, home, monkeypatch):
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), home / "map.ipynb"
    )
    monkeypatch.setenv("IMGSEARCH_HOME", str(home))
    tab = page.context.new_page()
    with browser.lab(home) as address:
        tab.goto(address.format(path="map.ipynb"))
        tab.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        tab.locator(".jp-CodeCell .cm-content").first.click()
        tab.keyboard.press("Shift+Enter")
        drawn(tab)
        tab.get_by_role("button", name="modern", exact=True).click()
        tab.locator(".mp-root:not([data-selected='0'])").wait_for()
        selected = chosen(tab)
        tab.locator(".jp-CodeCell .cm-content").nth(1).click()
        tab.keyboard.press("Shift+Enter")
        tab.get_by_text(f"{selected} are selected", exact=True).wait_for()
    tab.close()


@needs_chromium
def test_from_the_map_on_to_the_search_page(page):
    tab = page.context.new_page()
    tab.goto(page.url.replace("/map", "/#like=4"))
    tab.locator(".sp-root[data-answered] .sp-card[data-row='4'][data-self='1']").first.wait_for(
        timeout=60_000
    )
    tab.close()


@needs_chromium
def test_the_page_has_no_serious_fault_for_those_who_do_not_see_it(page):
    assert not faults(page)
    page.set_viewport_size({"width": 1280, "height": 900})


@needs_chromium
def test_only_the_map_may_make_programs_as_it_goes(page):
    address = page.url.removesuffix("map")
    policies = {
        path: page.request.get(address + path).headers["content-security-policy"]
        for path in ("", "map", "map_page.js", "plotly.min.js", "api/health", "maps")
    }
    assert {path for path, policy in policies.items() if "unsafe" in policy} == {"map"}
    assert all("default-src 'none'" in policy for policy in policies.values())


def page_of(home):
    said = []
    run = find_run("tiny")
    return Mapped(run, functools.cache(lambda: Service(run)), lambda *each: said.append(each)), said


def rows(*numbers):
    return [np.array(numbers, "<i4").tobytes()]


def test_odd_messages_are_one_line_and_nothing_is_kept(home):
    with living_in(home):
        page, said = page_of(home)
        page.receive({"kind": "hello"})
        assert said[-1][0]["kind"] == "open"
        kept = find_run("tiny").labels / SELECTION
        before = kept.read_bytes() if kept.is_file() else None
        odd = [
            ({"kind": "queue"}, rows()),
            ({"kind": "queue"}, rows(0, 99)),
            ({"kind": "queue"}, rows(-1, 3)),
            ({"kind": "queue"}, [b"abc"]),
            ({"kind": "queue"}, []),
            ({"kind": "queue"}, rows(4)),
            ({"kind": "queue", "known_as": 1}, rows(0, 1, 2)),
            ({"kind": "layout", "model": "head", "method": "../x"}, ()),
            ({"kind": "layout", "model": "x"}, ()),
            ({"kind": "colour", "by": "nothing of it"}, ()),
            ({"kind": "want", "rows": [99], "large": 0}, ()),
            ({"kind": "want", "rows": "all", "large": 0}, ()),
            ({"kind": "table"}, rows()),
            ({}, ()),
        ]
        for message, buffers in odd:
            page.receive({"serial": 7, "known_as": said[0][0]["known_as"], **message}, buffers)
            assert said[-1][0]["kind"] == "error" and "\n" not in said[-1][0]["line"], message
            assert said[-1][0]["serial"] == 7 and not said[-1][0]["fatal"]
        assert (kept.read_bytes() if kept.is_file() else None) == before


def test_a_run_that_has_no_selection_says_where_to_make_one(tmp_path):
    tiny_study.make(tmp_path)
    ended = tiny_study.command(
        tmp_path, "tag", "tiny", "--queue=map", "--no-browser", f"--port={browser.free_port()}"
    )
    assert ended.returncode == 1 and "imgsearch serve" in ended.stderr
    assert "nothing was selected on the map of run tiny yet" in ended.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"name\nx.png\n", b"\xa1\xff\x00", b"image\nghost.png\nother.png\n", b"image\n"],
)
def test_a_selection_that_is_none_is_a_line_that_names_the_file(home, content):
    with living_in(home):
        run = find_run("tiny")
        (run.labels / SELECTION).write_bytes(content)
        with pytest.raises(ValueError, match=f"{SELECTION}.*select again"):
            open_queue(run, "map", 0)


def test_a_class_called_as_a_fact_stays_a_class(home):
    with living_in(home):
        run = find_run("tiny")
        names = Service(run).used.names
        told = facts(
            run, names, pd.DataFrame({"grades": "a class", "kind": "b"}, range(len(names)))
        )
    assert set(told["label_grades"]) == {"a class"} and told["grades"].sum() >= 6
