"""How fluent the map is: laid out, drawn, pointed at, zoomed and drawn around in a real Chromium,
beside bare plotly.

    python -m benchmarks.map_page [--n 100000] [--dim 512] [--umap] [--json]

The vectors are drawn from 300 clusters. `layout_seconds` is the principal components (with --umap,
UMAP's too); `drawn_seconds` from the click on *Map* until the points stand there; `pointed_ms` from
the pointer's arrival until the image's name stands there; `frame_ms` the longest frame while the
wheel zooms; `selected_ms` from the end of a line around a part of the points until they are
selected and marked. `bare_seconds` and `bare_frame_ms` are plotly's alone, for the same points in
the same browser, and `ratio_to_bare` is of the drawing. Without a graphics card Chromium draws by
the processor, and a frame of 100,000 points takes a second there, also plotly's own."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks import browser
from imgsearch_utils.encoders.embed_collection import embed_run
from imgsearch_utils.images import open_collection
from imgsearch_utils.steps.map_layout import lay_out
from imgsearch_utils.web.map_library import plotly_file
from imgsearch_utils.workspace import find_run

BARE = """([x, y]) => {
  const box = document.body.appendChild(document.createElement("div")), begun = performance.now();
  Object.assign(box.style, { width: "1000px", height: "640px" });
  const marker = { size: 3.5, color: Float32Array.from(x, (_, row) => row % 12) };
  box.id = "bare";
  return Plotly.newPlot(box, [{ type: "scattergl", mode: "markers", x: Float32Array.from(x), y: Float32Array.from(y),
    marker, hoverinfo: "none" }], {}, { scrollZoom: true }).then(() => (performance.now() - begun) / 1000);
}"""
LONGEST_FRAME = """() => new Promise((done) => {
  let [last, most, left] = [performance.now(), 0, 40];
  const next = () => {
    const now = performance.now();
    [most, last, left] = [Math.max(most, now - last), now, left - 1];
    if (left) requestAnimationFrame(next); else done(most);
  };
  requestAnimationFrame(next);
})"""


def clustered(n: int, dim: int) -> np.ndarray:
    """Vectors (n, dim) around 300 centres."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(300, dim))[rng.integers(0, 300, n)] + 0.6 * rng.normal(size=(n, dim))
    ).astype(np.float32)


def begin(home: Path, vectors: np.ndarray) -> None:
    """A workspace with a run of these vectors, of which nothing but the vectors is known."""
    data = home / "data"
    data.mkdir()
    np.save(data / "vectors.npy", vectors)
    kinds = np.arange(len(vectors)) % 8
    pd.DataFrame(
        {
            "file_label": [f"{row:07d}.jpg" for row in range(len(vectors))],
            "kind": [f"kind {kind}" for kind in kinds],
        }
    ).to_csv(data / "labels.csv", index=False)
    (home / "configs").mkdir()
    (home / "configs" / "map.yaml").write_text(
        f"study: map\nimages: {{source: {data}, vectors: vectors.npy}}\noracle: person\n"
    )
    run = find_run("map", begin=True)
    embed_run(run, open_collection(run))


def in_the_browser(home: Path, points: np.ndarray) -> dict[str, float]:
    """The seconds and milliseconds of the page; points (n, 2) for plotly alone."""
    with (
        browser.ServedPage(home, "serve", "--study=map") as server,
        browser.browser_page(1320, 900) as page,
    ):
        page.goto(server.url)
        page.locator(".sp-root[data-open]").wait_for(timeout=300_000)
        begun = time.perf_counter()
        page.get_by_role("link", name="Map").click()
        page.locator(".mp-root[data-coloured='kind'] .mp-legend button").first.wait_for(
            timeout=300_000
        )
        found = {"drawn_seconds": time.perf_counter() - begun}
        box = page.locator(".mp-plot").bounding_box()
        place = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
        for share in np.linspace(0.4, 0.6, 60):  # until there is one
            begun = time.perf_counter()
            page.mouse.move(*place(share, 0.5))
            page.wait_for_timeout(50)
            if page.locator(".mp-root[data-shown]").count():
                break
        page.locator(".mp-shown b").wait_for()
        found["pointed_ms"] = 1000 * (time.perf_counter() - begun)
        page.mouse.wheel(0, -120)
        found["frame_ms"] = page.evaluate(LONGEST_FRAME)
        page.get_by_role("button", name="Show all").click()
        page.get_by_role("button", name="Select", exact=True).click()
        page.mouse.move(*place(0.05, 0.05))
        page.mouse.down()
        for x, y in ((0.5, 0.02), (0.5, 0.98), (0.05, 0.98), (0.05, 0.08)):
            page.mouse.move(*place(x, y), steps=10)
        begun = time.perf_counter()
        page.mouse.up()
        page.locator(".mp-root:not([data-selected='0'])").wait_for()
        page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        found |= {
            "selected_ms": 1000 * (time.perf_counter() - begun),
            "selected": int(page.locator(".mp-root").get_attribute("data-selected")),
        }
        page.goto("about:blank")
        page.add_script_tag(path=plotly_file())
        found["bare_seconds"] = page.evaluate(BARE, points.T.tolist())
        box = page.locator("#bare").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.wheel(0, -120)
        found["bare_frame_ms"] = page.evaluate(LONGEST_FRAME)
    return found | {"ratio_to_bare": found["drawn_seconds"] / found["bare_seconds"]}


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--umap", action="store_true", help="UMAP's layout too, which takes minutes"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if browser.chromium() is None:
        raise SystemExit(f"the benchmark {browser.INSTALL}")
    vectors, seconds = clustered(given.n, given.dim), {}
    names = [str(row) for row in range(given.n)]
    for method in ("pca", "umap")[: 1 + given.umap]:
        begun = time.perf_counter()
        points = lay_out(names, vectors, method)
        seconds[method] = time.perf_counter() - begun
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, IMGSEARCH_HOME=folder),
    ):
        begin(Path(folder), vectors)
        found = in_the_browser(Path(folder), points.vectors)
    found = {"images": given.n, "dim": given.dim, "layout_seconds": seconds, **found}
    print(
        json.dumps(found)
        if given.json
        else "\n".join(f"{name}: {value}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
