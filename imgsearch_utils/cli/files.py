"""Large files that a command reads and writes: how far it is, and nothing half-written."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from imgsearch_utils.workspace import atomic_path


@contextlib.contextmanager
def bytes_read(file: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar of the bytes of a file on a terminal; gives what ``tables.user_csv_parts`` calls
    `watch`.
    """
    from tqdm import tqdm

    with tqdm(desc=file.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def watch(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        yield watch


@contextlib.contextmanager
def output(file: Path | None) -> Iterator[TextIO]:
    """What becomes a file, or standard output when there is none: whole in the end, or not at
    all.
    """
    text = {"encoding": "utf-8", "newline": ""}
    if file:
        with atomic_path(file) as partial, partial.open("w", **text) as opened:
            yield opened
        return
    with tempfile.TemporaryFile("w+", **text) as opened:
        yield opened
        opened.seek(0)
        shutil.copyfileobj(opened, sys.stdout)
