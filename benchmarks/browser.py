"""A real browser on a real JupyterLab, or on a page of its own, for tests, benchmarks and
screenshots.

Run: python -m benchmarks.browser FOLDER PORT, to serve the tagger of what `draw_study` wrote into a
folder."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.study import ImageSettings, Rubric
from imgsearch_utils.web.pages import task_site
from imgsearch_utils.web.serve import serve
from imgsearch_utils.web.tagging_page import Task

INSTALL = (
    "needs a Chromium: apt-get install -y --no-install-recommends chromium, or playwright "
    "install chromium"
)
REPOSITORY = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TAGGER_CELL = """\
from pathlib import Path
import pandas as pd
from imgsearch_utils.web import Tagger
from imgsearch_utils.images.collection import read_collection
from imgsearch_utils.study import ImageSettings, Rubric

folder = Path({folder!r})
collection = read_collection(folder / "pictures", ImageSettings(source="pictures"))
rubric = Rubric(**{rubric!r})
Tagger(pd.read_csv(folder / "pairs.csv"), collection, folder / "journal.csv", rubric, **{options!r})
"""


def chromium() -> str | None:
    """The path of an installed Chromium or Chrome, or None."""
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


def draw_study(folder: Path, images: int, pairs: int, seed: int = 0, **options) -> None:
    """Write small pictures and random pairs of them, and what `write_tagger` writes.

    The first picture's name is HTML, with a comma and quotes, which must never be anything but a
    name."""
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    names = [
        '<img src=x onerror="document.title=1">, "é".png',
        *(f"{i:04}.png" for i in range(1, images)),
    ]
    for name in names:
        width, height = (int(side) for side in rng.integers(160, 320, 2))
        picture = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(90, 230, 3)))
        pen = ImageDraw.Draw(picture)
        for _ in range(6):
            x, y = rng.integers(0, width), rng.integers(0, height)
            pen.ellipse((x, y, x + 60, y + 60), fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
        picture.save(folder / "pictures" / name)
    one, two = np.triu_indices(images, 1)
    chosen = rng.permutation(len(one))[:pairs]
    table = pd.DataFrame(
        {"image1": [names[i] for i in one[chosen]], "image2": [names[i] for i in two[chosen]]}
    )
    write_tagger(folder, table, **options)


def write_tagger(folder: Path, pairs: pd.DataFrame, rubric: Rubric = Rubric(), **options) -> None:  # noqa: B008
    """Write the pairs, and how they are tagged: tag.ipynb for JupyterLab, task.json for a page of
    its own.

    options : of ``Task``, and `annotator`
    """
    pairs.to_csv(folder / "pairs.csv", index=False)
    (folder / "task.json").write_text(
        json.dumps({"rubric": rubric.model_dump(mode="json"), "options": options})
    )
    cell = TAGGER_CELL.format(folder=str(folder), rubric=rubric.model_dump(), options=options)
    write_notebook(folder / "tag.ipynb", cell)


def write_notebook(file: Path, source: str) -> None:
    """Write a notebook of one cell of code."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=kernel), file
    )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _started(
    command: list[str], folder: Path, log: str, answers: str, **environment: str
) -> subprocess.Popen:
    """Start a Python module and wait until it answers at an address."""
    file = folder / f"{log}.log"
    with file.open("ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment},
        )
    until = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(answers)
            return server
        except urllib.error.HTTPError:  # it is there, and wants its token
            return server
        except OSError:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    raise TimeoutError(f"{command[0]} did not start: {file.read_text()[-800:]}")


def _stop(server: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(20)


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[str]:
    """Run JupyterLab on a free port of this machine alone; give the address with {path} open in
    it.
    """
    port, token = free_port(), secrets.token_hex(16)
    own = {
        name: str(folder / "jupyter" / name)
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_RUNTIME_DIR",
            "IPYTHONDIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
        )
    }
    command = [
        "jupyterlab",
        "--no-browser",
        f"--port={port}",
        "--ip=127.0.0.1",
        "--allow-root",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None",
    ]
    server = _started(command, folder, "lab", f"http://127.0.0.1:{port}/api", **own)
    try:
        yield f"http://127.0.0.1:{port}/lab/tree/{{path}}?token={token}"
    finally:
        _stop(server)


class ServedPage:
    """A page's server: by a command of `imgsearch`, or, without one, the tagger of what
    `draw_study` wrote.

    folder : where it runs, and IMGSEARCH_HOME
    module : what is run with the command
    """

    def __init__(self, folder: Path, *command: str, module: str = "imgsearch_utils.cli"):
        self.folder, self.port, self.token = folder, free_port(), secrets.token_urlsafe(24)
        self.address = f"http://127.0.0.1:{self.port}/"
        self.url = f"{self.address}?token={self.token}"
        self._command = (
            [module, *command, f"--port={self.port}", "--no-browser"]
            if command
            else ["benchmarks.browser", str(folder), str(self.port)]
        )

    def start(self) -> "ServedPage":
        """Start it, also again: it has one port and one token."""
        self.process = _started(
            self._command,
            self.folder,
            "page",
            self.address,
            IMGSEARCH_TOKEN=self.token,
            IMGSEARCH_HOME=str(self.folder),
            XDG_STATE_HOME=str(self.folder / "state"),
        )
        return self

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "ServedPage":
        return self.start()

    def __exit__(self, *_) -> None:
        _stop(self.process)


def _serve_tagger(folder: Path, port: int) -> None:
    task = json.loads((folder / "task.json").read_text())
    options, rubric = task["options"], Rubric(**task["rubric"])
    annotator = options.pop("annotator", "")

    def open_() -> Task:
        collection = read_collection(folder / "pictures", ImageSettings(source="pictures"))
        return Task(
            pd.read_csv(folder / "pairs.csv"),
            collection,
            Journal(folder / "journal.csv"),
            rubric,
            **options,
        )

    serve(
        task_site("Tagging", rubric, open_, "imgsearch tag", {}, annotator),
        port,
        "127.0.0.1",
        False,
    )


@contextlib.contextmanager
def browser_page(width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page of headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser.new_context(viewport={"width": width, "height": height}).new_page()
        browser.close()


def run_cell(page: Page) -> None:
    """Run the first code cell of the open notebook and wait for the tagger."""
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.locator(".lt-root").wait_for()


def start_grading(page: Page, name: str) -> None:
    """Give the annotator's name, when asked, wait for the first pair, and send the keys to the
    tagger.
    """
    page.locator(".lt-root[data-ready], .lt-root.lt-asking").wait_for()
    if page.locator(".lt-asking").count():
        page.locator(".lt-name input").fill(name)
        page.keyboard.press("Enter")
    ready(page)
    page.locator(".lt-root").focus()


def ready(page: Page) -> None:
    """Wait until the pictures of the shown pair are there."""
    page.wait_for_function(
        "() => { const d = document.querySelector('.lt-root')?.dataset; return d && d.ready && "
        "d.ready === d.place }"
    )


def press(page: Page, key: str) -> None:
    """Press a key that is an act, and wait until the screen acknowledges it."""
    root = page.locator(".lt-root")
    page.locator(".lt-root[data-pending='']").wait_for()
    before = int(root.get_attribute("data-acknowledged") or 0)
    page.keyboard.press(key)
    page.locator(f".lt-root[data-acknowledged='{before + 1}']").wait_for()


if __name__ == "__main__":
    _serve_tagger(Path(sys.argv[1]), int(sys.argv[2]))
