"""How soon the teaching page's other side acknowledges a grade in a long journal, with several pages
open that ask for news all the time while a lesson is learnt.
"""

import threading
import time
from itertools import cycle

import numpy as np
import pandas as pd

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.web.teaching_page import Classroom, Teaching
from imgsearch_utils.workspace import Run

BOUND = 100.0  # ms from a grade to its acknowledgement
NEWS = 0.25  # s between two questions of a page; a real one asks once a second


def lengthen(run: Run, lines: int) -> None:
    """Fill a run's journal with imported grades up to so many lines: of the run's own training
    images and of others, in turn.
    """
    journal = Journal(run.journal)
    splits = read_split(run)
    train = splits.image[splits.side == "train"].tolist()
    own = [(one, two) for i, one in enumerate(train) for two in train[i + 1 :]][:lines]
    n = max(0, lines - len(journal.acts()))
    pairs = [*own, *((f"other{i}.jpg", f"other{i + 1}.jpg") for i in range(n - len(own)))][:n]
    table = pd.DataFrame(pairs, columns=["image1", "image2"])
    journal.append_many(table.assign(similarity=np.arange(n) % 4), "imported", "imported", 0)


def acknowledged(run: Run, study: str, n_acts: int, others: int = 3) -> list[float]:
    """Milliseconds from each of so many grades to its acknowledgement, beside `others` further pages
    and a lesson.
    """
    room, waited, ended = Classroom(run, study), [], threading.Event()
    pages = [_Page(room, f"person{i}") for i in range(1 + others)]
    asking = [threading.Thread(target=page.ask_news, args=(ended,)) for page in pages[1:]]
    for thread in asking:
        thread.start()
    try:
        for grade, _ in zip(cycle((0, 3, 1, 2)), range(n_acts)):
            waited.append(pages[0].grade(grade))
            pages[0].news()
    finally:
        ended.set()
        for thread in asking:
            thread.join()
        room.lessons.close()
    return waited


class _Page:
    """A page as the server sees it."""

    def __init__(self, room: Classroom, name: str):
        self.state, self.known = {}, None
        self._other, self._serial = Teaching(room, self._told), 0
        self._other.receive({"kind": "hello", "name": name})

    def _told(self, message, _=()) -> None:
        if message["kind"] == "error":
            raise RuntimeError(message["line"])
        if message["kind"] == "state":
            self.state = message
        if message["kind"] == "lesson":
            self.known = message["version"]

    def news(self) -> None:
        self._other.receive({"kind": "news", "known": self.known})

    def ask_news(self, ended: threading.Event) -> None:
        while not ended.wait(NEWS):
            self.news()

    def grade(self, grade: int) -> float:
        """Grade what is shown; milliseconds until that is acknowledged."""
        self._serial += 1
        began = time.perf_counter()
        self._other.receive(
            {
                "kind": "act",
                "act": "grade",
                "grade": grade,
                "serial": self._serial,
                "place": self.state["place"],
                "pair": self._shown(),
                "seconds": 1.0,
            }
        )
        took = 1000 * (time.perf_counter() - began)
        if self.state["serial"] != self._serial:
            raise RuntimeError("a grade was not acknowledged")
        return took

    def _shown(self) -> list[str]:
        """The two names that stand on the page: of a list, its query and the current result."""
        if "list" not in self.state:
            return [picture["name"] for picture in self.state["pictures"]]
        current = [each for each in self.state["list"] if each["place"] == self.state["place"]]
        return [self.state["pictures"][0]["name"], current[0]["name"]]
