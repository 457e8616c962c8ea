"""How fast the tagger is: 1,000 pairs in a real Chromium, from the load to the first pair and from
key to next pair.

Run: python -m benchmarks.tagging [--pairs 1000] [--keys 100] [--json]
     python -m benchmarks.tagging --teach [--images 300] [--keys 500] [--json]
     python -m benchmarks.tagging --journal [--lines 1000 10000 100000] [--keys 40] [--json]

With --teach it is the teaching page of that many drawn houses without classes, which learns while
the keys are pressed: key to next result while it learns and while it does not, and how long each
lesson took. With --journal it is how soon a grade is acknowledged in a journal of so many lines, with
four teaching pages open that ask for news all the time while a lesson is learnt; the bound is 100 ms."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import browser
from benchmarks.act_latency import BOUND, acknowledged, lengthen
from imgsearch_utils.drawn_houses import draw_house, sample_houses

# The time from a key to the painted next pair, by the browser's own clock.
WATCH = """() => {
    const root = document.querySelector(".lt-root");
    let pressed = 0;
    window.waited = [];
    root.addEventListener("keydown", () => { pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (!pressed || root.dataset.ready !== root.dataset.place) return;
        const from = pressed;
        pressed = 0;
        requestAnimationFrame(() => waited.push(performance.now() - from));
    }).observe(root, { attributeFilter: ["data-ready"] });
}"""


def measure(n_pairs: int, n_keys: int) -> dict[str, float]:
    """Seconds from opening the page to the first pair (the server runs), and milliseconds from key
    to pair.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser.draw_study(folder, images=200, pairs=n_pairs, annotator="ann")
        with browser.ServedPage(folder) as server, browser.browser_page() as page:
            start = time.perf_counter()
            page.goto(server.url)
            browser.ready(page)
            first = time.perf_counter() - start
            browser.start_grading(page, "ann")
            page.evaluate(WATCH)
            for i in range(n_keys):
                page.keyboard.press(str(i % 4))
                page.wait_for_timeout(200)  # watching more closely would slow down what is watched
            waited = page.evaluate("waited")
    return {
        "pairs": n_pairs,
        "keys": len(waited),
        "first_pair_s": first,
        "next_pair_median_ms": float(np.median(waited)),
        "next_pair_p95_ms": float(np.quantile(waited, 0.95)),
    }


def make_teachable(folder: Path, images: int) -> None:
    """A run "benchmarked" of so many drawn houses without classes, which has run to its first report."""
    (folder / "pictures").mkdir()
    houses = sample_houses(images // 3)
    for house in houses.to_dict("records"):
        draw_house(house, 128).save(folder / "pictures" / house["file_label"])
    about = os.environ | {"IMGSEARCH_HOME": str(folder), "PYTHONPATH": str(browser.REPOSITORY)}
    for words in (
        ["new", "benchmarked", "pictures"],
        [
            "run",
            "benchmarked",
            "--set",
            "asked_per_round=1000",
            "--set",
            "sizes=[]",
            "--set",
            "indexes=[{name: exact}]",
        ],
    ):
        subprocess.run(
            [sys.executable, "-m", "imgsearch_utils.cli", *words],
            cwd=folder,
            env=about,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def measure_teaching(images: int, n_keys: int) -> dict[str, float | list]:
    """Milliseconds from key to the next result, apart for keys pressed while it learnt; seconds by
    number of grades.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, lessons = Path(name), {}
        make_teachable(folder, images)
        with (
            browser.ServedPage(folder, "teach", "benchmarked") as server,
            browser.browser_page(1280, 800) as page,
        ):
            page.goto(server.url)
            browser.start_grading(page, "ann")
            page.evaluate(WATCH)
            page.evaluate("window.learning = []")
            for i in range(n_keys):
                panel = page.evaluate("""() => {
                    const panel = document.querySelector(".lt-learnt");
                    learning.push(panel.dataset.state === "learning");
                    return panel.innerText;
                }""")
                if took := re.search(r"Learnt from (\d+) grades in (\d+) s", panel):
                    lessons[int(took[1])] = int(took[2])
                page.keyboard.press(str(i * 7 % 4))
                page.wait_for_timeout(200)
            waited, learning = (
                np.array(page.evaluate("waited")),
                np.array(page.evaluate("learning"), bool),
            )
    learning = learning[: len(waited)]
    return {
        "images": images,
        "keys": len(waited),
        "keys_while_learning": int(learning.sum()),
        **{
            f"{name}_{what}_ms": float(np.quantile(waited[rows], share))
            for name, rows in (("learning", learning), ("idle", ~learning))
            for what, share in (("median", 0.5), ("p95", 0.95))
        },
        "lessons": sorted(lessons.items()),
    }


def measure_journal(lengths: list[int], n_acts: int) -> list[dict[str, float]]:
    """Milliseconds from a grade to its acknowledgement, by lines of the journal, without a
    browser.
    """
    from imgsearch_utils.workspace import find_run

    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_teachable(folder, images=90)
        os.environ["IMGSEARCH_HOME"] = name
        os.chdir(folder)
        run = find_run("benchmarked")
        for lines in lengths:
            run.journal.unlink(missing_ok=True)
            lengthen(run, lines)
            waited = acknowledged(run, "benchmarked", n_acts)
            median, worst = float(np.median(waited)), float(np.max(waited))
            results.append({"lines": lines, "median_ms": median, "worst_ms": worst})
        os.chdir("/")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teach", action="store_true", help="the teaching page, while it learns")
    parser.add_argument("--journal", action="store_true", help="acts in long journals")
    parser.add_argument("--lines", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--keys", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.journal:
        results = measure_journal(options.lines, options.keys or 40)
        if options.json:
            print(json.dumps(results))
        for each in results if not options.json else []:
            print(
                f"{each['lines']:,} lines, four pages, a lesson: a grade is acknowledged after "
                f"{each['median_ms']:.0f} ms (median), {each['worst_ms']:.0f} ms at worst; the "
                f"bound is {BOUND:.0f} ms"
            )
        return
    if browser.chromium() is None:
        raise SystemExit(f"the benchmark {browser.INSTALL}")
    result = (
        measure_teaching(options.images, options.keys or 500)
        if options.teach
        else measure(options.pairs, options.keys or 100)
    )
    if options.json:
        print(json.dumps(result))
        return
    if options.teach:
        for name in ("learning", "idle"):
            print(
                f"key to next result, {name}: median {result[f'{name}_median_ms']:.0f} ms, 95 % "
                "below "
                f"{result[f'{name}_p95_ms']:.0f} ms"
            )
        print("a lesson of n grades took s:", ", ".join(f"{n}: {s}" for n, s in result["lessons"]))
        return
    print(
        f"{result['pairs']:,} pairs: the first is on screen {result['first_pair_s']:.2f} s after "
        "the page is opened"
    )
    print(
        f"key to next pair, saved in between: median {result['next_pair_median_ms']:.0f} ms, "
        "95 % below "
        f"{result['next_pair_p95_ms']:.0f} ms ({result['keys']} keys)"
    )


if __name__ == "__main__":
    main()
