"""How fast the tagger is: 1,000 pairs in a real Chromium, from the load to the first pair and from key to next pair.

Run: python -m benchmarks.tagging [--pairs 1000] [--keys 100] [--json]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import browser

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
    """Seconds from opening the page to the first pair (the server runs), and milliseconds from key to pair."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if browser.chromium() is None:
        raise SystemExit(f"the benchmark {browser.INSTALL}")
    result = measure(options.pairs, options.keys)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['pairs']:,} pairs: the first is on screen {result['first_pair_s']:.2f} s after the page is opened")
    print(f"key to next pair, saved in between: median {result['next_pair_median_ms']:.0f} ms, 95 % below "
          f"{result['next_pair_p95_ms']:.0f} ms ({result['keys']} keys)")  # fmt: skip


if __name__ == "__main__":
    main()
