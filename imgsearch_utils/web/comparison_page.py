"""What the page of comparisons does: a picture and two candidates, one key says which is more like
it; each answer is in the journal before the next question.
"""

import re
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from imgsearch_utils.grades.journal import COMPARISONS, Act, Journal, question_of
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.study import Rubric
from imgsearch_utils.web.messages import Sitting, serial_of
from imgsearch_utils.web.page_pictures import name_at, picture_bytes
from imgsearch_utils.web.tagging_page import LONGEST_NAME, looked, shown
from imgsearch_utils.workspace import Run

BATCH = 120  # questions that are chosen at once; the next ones come when all have an answer
AHEAD = 2  # questions whose pictures are loaded before they are shown
SIDES = ("left", "right")


@dataclass(frozen=True)
class Questions:
    """What is asked, of one annotator or of many at once.

    table : query, candidate1 (on the left), candidate2
    round : written to the journal; answers of other rounds do not count as given here

    Raises
    ------
    ValueError
        when the study has no pictures, or there is no question.
    """

    table: pd.DataFrame
    collection: Collection
    journal: Journal
    rubric: Rubric = Rubric()  # it is frozen
    round: int = 0
    # one act at a time, so that none is written twice
    turn: threading.RLock = field(default_factory=threading.RLock)
    # the last acts, by serial and what they tell
    written: deque[str] = field(default_factory=lambda: deque(maxlen=1000))

    def __post_init__(self):
        if self.collection.folder is None:
            raise ValueError("this study has vectors only, no pictures to show; place them")
        if self.table.empty:
            raise ValueError(
                "no question to ask: it takes three pictures that are not the same, of one class"
            )


def open_questions(run: Run, number: int) -> Questions:
    """A run's questions, by the encoder and the head that search uses; the same each time, and a
    ``BATCH`` more when that many have answers.

    number : the round that the answers are for
    """
    from imgsearch_utils.asking.comparison_questions import choose_questions
    from imgsearch_utils.encoders.embed_collection import open_images
    from imgsearch_utils.images.collection import open_collection
    from imgsearch_utils.learning.model import Model, model_in_use

    journal, images, used = Journal(run.journal), open_images(run), model_in_use(run)
    models = [Model()] if used.name == "encoder" else [Model(), used]
    acts = [act for act in journal.standing_comparisons() if act.source == "person"]
    before = {question_of(act) for act in acts if act.round < number}
    here = {(act.annotator, question_of(act)) for act in acts if act.round == number}
    answered = max(Counter(annotator for annotator, _ in here).values(), default=0)
    size = BATCH * (1 + answered // BATCH)
    table = choose_questions(images.train, models, size, run.study.seed * 1000 + number, before)
    return Questions(table, open_collection(run), journal, run.study.rubric, number)


class Comparing(Sitting):
    """One annotator's sitting: understands what the page sends, writes answers, and says what to
    show.

    A new one on the same journal, also in another process, goes on where the annotator stopped. An
    answer that was not acknowledged (the server stopped) comes again with its serial, and is
    written only if the journal does not hold it.

    Parameters
    ----------
    send : called with a message to the page and its buffers
    annotator : asked on screen when empty
    """

    def __init__(self, task: Questions, send: Callable[..., None], annotator: str = ""):
        self._task, self._send, self._annotator = task, send, annotator
        self._rows = task.table.to_numpy(object).tolist()
        self._pictures = list(dict.fromkeys(name for row in self._rows for name in row))
        self._number = {name: number for number, name in enumerate(self._pictures)}
        # pictures go by their number
        self._known_as = zlib.crc32(repr(self._pictures).encode("utf-8", "replace"))
        self._place = {(row[0], *key(*row[1:])): place for place, row in enumerate(self._rows)}
        self._at = self._next_open()
        self._handlers = {
            "hello": self._on_hello,
            "name": self._on_name,
            "answer": self._on_answer,
            "undo": self._on_undo,
        }

    def _own(self, acts: list[Act]) -> list[tuple[int, Act]]:
        """Those acts that are this annotator's on these questions, each with its place."""
        return [
            (self._place[question_of(act)], act)
            for act in acts
            if act.act in COMPARISONS
            and (act.annotator, act.round) == (self._annotator, self._task.round)
            and question_of(act) in self._place
        ]

    def _standing(self) -> list[tuple[int, Act]]:
        return self._own(self._task.journal.standing_comparisons())

    def _next_open(self) -> int:
        """The first place without an answer; past the end when all have one."""
        done = {place for place, _ in self._standing()}
        return next((i for i in range(len(self._rows)) if i not in done), len(self._rows))

    def _on_hello(self, message) -> None:
        if not self._annotator and message.get("name"):
            self._annotator = _named(message["name"])
        if self._at in {place for place, _ in self._standing()} or not self._annotator:
            self._at = self._next_open()
        self._show()

    def _on_name(self, message) -> None:
        self._annotator = _named(message["name"])
        self._at = self._next_open()
        self._show()

    def _on_answer(self, message) -> None:
        serial, place, side = serial_of(message, needed=True), message["place"], message["side"]
        if side not in (*SIDES, "neither") or not self._annotator:
            raise ValueError("not an answer of this page; reload it")
        if not isinstance(place, int) or not 0 <= place < len(self._rows):
            raise ValueError("not a question of this page; reload it")
        if [shown(name) for name in self._rows[place]] != message["names"]:
            self._show()
            raise ValueError(
                "the questions of this page have changed since it was opened; it shows the new "
                "ones now"
            )
        query, *candidates = self._rows[place]
        closer = candidates[side == "right"]
        act = "neither" if side == "neither" else "closer"

        def same(at: int, other: Act) -> bool:
            one_answer = act == "neither" or other.image2 == closer
            return (at, other.act) == (place, act) and one_answer

        if not self._holds(message, same):
            seconds = float(message["seconds"])
            self._write(query, closer, candidates[side != "right"], act, seconds=looked(seconds))
            self._task.written.append(_known_by(message))
        self._at = self._next_open()
        self._show(serial)

    def _on_undo(self, message) -> None:
        serial, standing = serial_of(message, needed=True), self._standing()
        if standing and not self._holds(message, lambda _, act: act.act == "uncompare"):
            place, last = standing[-1]
            self._write(last.image1, last.image2, last.answers, "uncompare")
            self._task.written.append(_known_by(message))
            self._at = place
        self._show(serial)

    def _write(self, query: str, closer: str, farther: str, act: str, **fields) -> None:
        self._task.journal.compare(
            self._annotator,
            query,
            closer,
            farther,
            act,
            round=self._task.round,
            rubric=self._task.rubric.version,
            **fields,
        )

    def _holds(self, message, same: Callable[[int, Act], bool]) -> bool:
        """Whether an act that is sent again is in the journal already: by its serial, or, where a
        server that has ended wrote it, among the lines that the page did not know of.
        """
        if _known_by(message) in self._task.written:
            return True
        return bool(message.get("again")) and any(
            same(place, act)
            for place, act in self._own(self._task.journal.acts())[int(message["lines"]) :]
        )

    def _on_want(self, message) -> None:
        for number in message["pictures"]:
            name = name_at(self._pictures, number)
            answer = {"kind": "picture", "number": number}
            try:
                self._send(answer, [picture_bytes(self._task.collection.path(name))])
            except ValueError as error:
                folder = str(self._task.collection.folder)
                reason = str(error).rsplit(": ", 1)[-1].replace(folder, "").strip()
                self._send(answer | {"error": reason})

    def _show(self, serial: str | int | None = None) -> None:
        standing = self._standing()
        latest = dict(standing)
        seconds = [act.seconds for _, act in standing[-20:] if act.seconds is not None]
        ahead = [i for i in range(self._at + 1, len(self._rows)) if i not in latest][:AHEAD]
        state = {
            "kind": "state",
            "serial": serial,
            "annotator": self._annotator,
            "place": self._at,
            "total": len(self._rows),
            "done": len(latest),
            "neither": sum(act.act == "neither" for act in latest.values()),
            "lines": len(self._own(self._task.journal.acts())),
            "known_as": self._known_as,
            "pace": float(np.median(seconds)) if seconds else None,
            "ahead": [self._number[name] for place in ahead for name in self._rows[place]],
        }
        if self._at < len(self._rows):
            state["pictures"] = [
                {"number": self._number[name], "name": shown(name)} for name in self._rows[self._at]
            ]
        self._send(state)


def _named(name: Any) -> str:
    return re.sub(r"\s+", " ", str(name)).strip()[:LONGEST_NAME]


def _known_by(message: dict[str, Any]) -> str:
    """What a message that is sent again is known by: its serial, and what it tells."""
    return repr([message.get(name) for name in ("serial", "kind", "place", "side")])
