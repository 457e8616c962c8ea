"""Pictures of tagger, search page and map at work on drawn houses, in JupyterLab and as pages of
their own.

Run: python -m benchmarks.screenshots [--out docs], after `make publish` (the search page and the
map show that run, and nothing of it is written)."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks import browser
from imgsearch_utils import workspace
from imgsearch_utils.drawn_houses import write_houses
from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.grades.oracles import answer
from imgsearch_utils.study import read_study
from imgsearch_utils.web.pair_order import make_queue
from imgsearch_utils.workspace import find_run

ANNOTATOR, OTHER = "Ada", "Grace"
ASKED, DONE = 120, 47
PUBLISHED = "published_synthetic_houses"
SEARCHED = "modern_0065.jpg"  # some of the encoder's results are below its threshold


def prepare(folder: Path) -> None:
    """Draw houses, choose pairs of one type, and write a journal in which two annotators have
    graded some of them.
    """
    write_houses(folder / "pictures", per_type=20)
    houses = pd.read_csv(folder / "pictures" / "attributes.csv")
    rng = np.random.default_rng(5)
    by_type = [group.file_label.to_numpy() for _, group in houses.groupby("house_type")]
    pairs = pd.DataFrame(
        [sorted(rng.choice(by_type[i % 3], 2, replace=False)) for i in range(2 * ASKED)],
        columns=["image1", "image2"],
    )
    pairs = pairs.drop_duplicates().head(ASKED).reset_index(drop=True)
    rubric = read_study(browser.REPOSITORY / "configs" / "synthetic_houses.yaml").rubric
    browser.write_tagger(folder, pairs, rubric, annotator=ANNOTATOR)
    journal = Journal(folder / "journal.csv")
    grades = answer("rubric", pairs, houses)
    grade_of = dict(zip(zip(pairs.image1, pairs.image2), grades))
    for number, item in enumerate(make_queue(pairs, 0, ANNOTATOR, 0.05)[:DONE]):
        slip = int(number % 9 == 4)
        grade = int(np.clip(grade_of[item.pair] - slip, 0, 3))
        journal.append(
            ANNOTATOR,
            *item.pair,
            "grade",
            grade=grade,
            seconds=rng.uniform(3, 7),
            source=item.source,
        )
    for row in range(30):
        grade = int(np.clip(grades[row] + (row % 6 == 0), 0, 3))
        journal.append(
            OTHER, *pairs.loc[row, ["image1", "image2"]], "grade", grade=grade, seconds=4
        )


def pose(page) -> None:
    """Answer some questions, so that a grade is proposed."""
    browser.start_grading(page, ANNOTATOR)
    for question in (1, 3, 3, 4, 5, 6, 7, 8):
        page.keyboard.press(f"Shift+Digit{question}")


def search_page_and_map(search_file: Path, map_file: Path) -> None:
    """The published run: a picture that is uploaded, with votes on two results; then its map, with
    a part selected.
    """
    picture = find_run("synthetic_houses", PUBLISHED).data / "all_images" / SEARCHED
    served = browser.ServedPage(workspace.home(), "serve", f"--run={PUBLISHED}")
    with served as server, browser.browser_page(1320, 1300) as page:
        page.goto(server.url)
        page.locator(".sp-root[data-open]").wait_for(timeout=120_000)
        page.locator("input[type=file]").set_input_files(picture)
        page.wait_for_function("() => document.querySelectorAll('.sp-grid img').length === 24")
        for votes, (n, way) in enumerate(((2, "up"), (6, "down"))):
            page.locator(".sp-head .sp-card").nth(n).locator(f".sp-{way}").click()
            page.locator(".sp-marks button").nth(votes).wait_for()
        page.mouse.move(0, 0)
        page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
        page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        page.screenshot(path=search_file)
        page.set_viewport_size({"width": 1320, "height": 860})
        page.get_by_role("link", name="Map").click()
        page.locator(".mp-root[data-coloured=house_type]").wait_for(timeout=60_000)
        draw_around_the_left(page)
        page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        page.screenshot(path=map_file)
    for file in (search_file, map_file):
        # photographs make a large PNG
        Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)


def draw_around_the_left(page) -> None:
    """Select what lies left below on the map, and point at one of the others."""
    box = page.locator(".mp-plot").bounding_box()
    page.get_by_role("button", name="Select", exact=True).click()
    corners = np.array(
        [(0.02, 0.55), (0.3, 0.52), (0.42, 0.75), (0.35, 0.97), (0.02, 0.97), (0.02, 0.57)]
    )
    corners = corners * (box["width"], box["height"]) + (box["x"], box["y"])
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=8)
    page.mouse.up()
    page.locator(".mp-strip img").nth(8).wait_for()
    for share in np.linspace(0.55, 0.95, 40):  # from the middle to the right, until there is one
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_timeout(60)
        if page.locator(".mp-shown img").count():
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    if browser.chromium() is None:
        raise SystemExit(f"the script {browser.INSTALL}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        with browser.lab(folder) as address, browser.browser_page(1240, 960) as page:
            page.goto(address.format(path="tag.ipynb"))
            browser.run_cell(page)
            page.get_by_role("button", name="No", exact=True).click()  # Jupyter's news
            page.get_by_role("tab", name="File Browser").click()  # closes it
            pose(page)
            page.locator(".jp-CodeCell").first.evaluate(
                "cell => cell.querySelector('.jp-Cell-inputWrapper').style.display = 'none'"
            )
            page.wait_for_timeout(1500)  # until Jupyter's notice has gone
            page.screenshot(path=out / "tagger_notebook.png")
        with browser.ServedPage(folder) as server, browser.browser_page(1280, 800) as page:
            page.goto(server.url)
            pose(page)
            page.screenshot(path=out / "tagger_page.png")
    search_page_and_map(out / "search_page.png", out / "map_page.png")
    print(
        f"written: tagger_notebook.png, tagger_page.png, search_page.png and map_page.png in {out}"
    )


if __name__ == "__main__":
    main()
