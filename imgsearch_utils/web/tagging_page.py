"""What the tagging page does: two pictures, a grade by one key; each act is in the journal before
the next pair.
"""

import re
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imgsearch_utils.grades.agreement import agreement_with_others, self_agreement
from imgsearch_utils.grades.journal import REST, Act, Journal
from imgsearch_utils.grades.pairs import canonical
from imgsearch_utils.images.collection import Collection, thumbnails
from imgsearch_utils.images.decoding import jpeg, open_image, side_by_side
from imgsearch_utils.study import Rubric
from imgsearch_utils.web.messages import Sitting, serial_of
from imgsearch_utils.web.page_pictures import SMALL, picture_bytes
from imgsearch_utils.web.pair_order import Item, make_queue

if TYPE_CHECKING:
    from matplotlib.figure import (
        Figure,
    )  # like `plots`, half a second of imports that the widget does not need

LONGEST_NAME, LONGEST_LOOK = 60, 86_400  # letters of an annotator's name, seconds before one act
AHEAD = 3  # pairs whose pictures are loaded before they are shown


@dataclass(frozen=True)
class Task:
    """What is graded, for one annotator or for many at once.

    pairs : image1, image2
    collection : where the pictures are; nothing outside its folder is ever sent
    rubric : what people are asked; each act is written with its version
    round : written to the journal; acts of other rounds do not count as done here
    seed : of the order of pairs and sides
    repeats : share of the pairs asked a second time, to measure agreement with oneself
    source : "person", or "adjudication" to overrule the annotators
    also : further pictures that may be shown

    Raises
    ------
    ValueError
        when the study has no pictures, or there is no pair to show.
    """

    pairs: pd.DataFrame
    collection: Collection
    journal: Journal
    rubric: Rubric = Rubric()  # it is frozen
    round: int = 0
    seed: int = 0
    repeats: float = 0.1
    source: str = "person"
    also: Sequence[str] = ()
    # one act at a time, so that none is written twice
    turn: threading.RLock = field(default_factory=threading.RLock)
    # the last acts, by ``known_by``
    written: deque[str] = field(default_factory=lambda: deque(maxlen=1000))

    def __post_init__(self):
        if self.collection.folder is None:
            raise ValueError(
                "this study has vectors only, no pictures to show; place them, or let an oracle "
                "answer"
            )
        pairs = canonical(self.pairs).drop_duplicates(["image1", "image2"]).reset_index(drop=True)
        if pairs.empty:
            raise ValueError("no pair to show: every pair of this queue has its grade")
        object.__setattr__(self, "pairs", pairs)

    def queue(self, annotator: str) -> list[Item]:
        """This annotator's order of the pairs."""
        return make_queue(self.pairs, self.seed, annotator, self.repeats, self.source)


class Tagging(Sitting):
    """One annotator's sitting at a task: understands what the page sends, writes acts, and says
    what to show.

    A new one on the same journal, also in another process, goes on where the annotator stopped. An
    act that was not acknowledged (the server stopped) comes again with its serial, and is written
    only if the journal does not hold it.

    Parameters
    ----------
    send : called with a message to the page and its buffers
    annotator : asked on screen when empty
    """

    def __init__(self, task: Task, send: Callable[..., None], annotator: str = ""):
        self._send = send
        self._handlers = {
            "hello": self._on_hello,
            "name": self._on_name,
            "act": self._on_act,
            "rest": self._on_rest,
            "undo": self._on_undo,
            "go": self._on_go,
        }
        self._take_up(task, annotator)

    def _take_up(self, task: Task, annotator: str) -> None:
        self._task, self._journal, self._collection = task, task.journal, task.collection
        self._pictures = list(
            dict.fromkeys([*task.also, *task.pairs[["image1", "image2"]].to_numpy(object).ravel()])
        )
        self._number = {name: number for number, name in enumerate(self._pictures)}
        # pictures go by their number
        self._known_as = zlib.crc32(repr(self._pictures).encode("utf-8", "replace"))
        self._set_annotator(annotator)

    def _set_annotator(self, annotator: str) -> None:
        name = str(annotator).strip()[:LONGEST_NAME]
        self._queue, self._annotator = self._task.queue(name), name
        self._place = {(*item.pair, item.source): i for i, item in enumerate(self._queue)}
        self._read_to, self._own_told = 0, []
        self._at = self._next_open(-1)

    def _told(self) -> list[tuple[int, Act]]:
        """All acts of this annotator on this queue, also those undone; the journal is read on from
        where it was left.
        """
        acts = self._journal.acts(self._read_to)
        self._read_to += len(acts)
        self._own_told += self._own(acts)
        return self._own_told

    def _own(self, acts: list[Act]) -> list[tuple[int, Act]]:
        """Those acts that are this annotator's on this queue, each with its place."""
        mine = [
            act
            for act in acts
            if act.annotator == self._annotator and act.round == self._task.round
        ]
        places = [self._place.get((act.image1, act.image2, act.source)) for act in mine]
        return [(place, act) for place, act in zip(places, mine) if place is not None]

    def _own_acts(self) -> dict[int, list[Act]]:
        """This annotator's standing acts on this queue, by place, in the order of the last of
        each.
        """
        acts: dict[int, list[Act]] = {}
        for place, act in self._own(self._journal.standing_by(self._annotator)):
            acts[place] = [*acts.pop(place, []), act]
        return acts

    def _next_open(self, place: int) -> int:
        """The first place after `place`, else from the start, without an answer; past the end when
        all have one.
        """
        done, n = self._own_acts(), len(self._queue)
        listed = self._listed(place)  # the rest of a list, then its beginning
        return next(
            (
                i
                for i in [
                    *range(place + 1, listed.stop),
                    *listed,
                    *range(listed.stop, n),
                    *range(place + 1),
                ]
                if i not in done
            ),
            n,
        )

    def _listed(self, place: int) -> range:
        """The places that are shown together with this one."""
        if not 0 <= place < len(self._queue) or self._queue[place].list < 0:
            return range(place, place + 1) if place >= 0 else range(0)
        number, start, stop = self._queue[place].list, place, place + 1
        while start and self._queue[start - 1].list == number:
            start -= 1
        while stop < len(self._queue) and self._queue[stop].list == number:
            stop += 1
        return range(start, stop)

    def _on_hello(self, message) -> None:
        if not self._annotator and message.get("name"):
            self._set_annotator(message["name"])
        # the page was there before
        if "pair" in message and self._pair_at(message["place"]) == message["pair"]:
            self._at = message["place"]
        elif self._at in self._own_acts():  # answered in another tab in the meantime
            self._at = self._next_open(self._at)
        self._show()

    def _on_name(self, message) -> None:
        self._set_annotator(message["name"])
        self._show()

    def _on_act(self, message) -> None:
        serial = serial_of(message, needed=True)
        place, grade, seconds = message["place"], message.get("grade"), float(message["seconds"])
        answers = message.get("answers", "")
        if message["act"] not in ("grade", "skip", "unsure") or not re.fullmatch(
            "[yn-]{0,99}", answers
        ):
            raise ValueError("not an act of this page; reload it")
        if self._pair_at(place) != message["pair"]:
            self._show()
            raise ValueError(
                "the pairs of this page have changed since it was opened; it shows the new ones now"
            )
        wanted_act = (place, message["act"], grade)
        if not self._holds(message, lambda at, act: (at, act.act, act.grade) == wanted_act):
            self._write_together(
                [place], message["act"], grade=grade, seconds=looked(seconds), answers=answers
            )
            self._task.written.append(known_by(message))
        self._at = self._next_open(place)
        self._show(serial)

    def _on_rest(self, message) -> None:
        """All that is open of a list: different, or skipped."""
        serial, listed, seconds = (
            serial_of(message, needed=True),
            self._listed(message["place"]),
            message["seconds"],
        )
        if message["act"] not in ("grade", "skip"):
            raise ValueError("not an act of this page; reload it")
        if [self._pair_at(place) for place in listed] != message["pairs"]:
            self._show()
            raise ValueError(
                "the pairs of this page have changed since it was opened; it shows the new ones now"
            )
        if not self._holds(
            message,
            lambda at, act: at in listed and act.act == message["act"] and act.answers == REST,
        ):
            done = self._own_acts()
            rest = [place for place in listed if place not in done]
            if rest:
                self._write_together(
                    rest,
                    message["act"],
                    grade=0 if message["act"] == "grade" else None,
                    seconds=looked(seconds / len(rest)),
                    answers=REST,
                )
            self._task.written.append(known_by(message))
        self._at = self._next_open(listed.stop - 1)
        self._show(serial)

    def _on_undo(self, message) -> None:
        serial, acts = serial_of(message, needed=True), self._own_acts()
        if acts and not self._holds(message, lambda _, act: act.act == "undo"):
            place = next(reversed(acts))
            last = acts[place][-1]
            together = [
                at
                for at, own in acts.items()
                if own[-1].answers == REST and own[-1].time == last.time
            ]
            self._write_together(sorted(together) if last.answers == REST else [place], "undo")
            self._task.written.append(known_by(message))
            self._at = min(together) if last.answers == REST else place
        self._show(serial)

    def _holds(self, message, same: Callable[[int, Act], bool]) -> bool:
        """Whether an act that is sent again is in the journal already.

        It is known by its serial, or, where it was written by a server that has ended since, by
        being among the lines that came after those that the page knew of when it sent it first."""
        if known_by(message) in self._task.written:
            return True
        return bool(message.get("again")) and any(
            same(place, act) for place, act in self._told()[int(message["lines"]) :]
        )

    def _pair_at(self, place: int) -> list[str] | None:
        """The two names as they are shown at a place, None where there is none."""
        if not isinstance(place, int) or not 0 <= place < len(self._queue):
            return None
        return [shown(name) for name in (self._queue[place].left, self._queue[place].right)]

    def _write_together(self, places: Sequence[int], act: str, **fields) -> None:
        self._journal.append_together(
            self._annotator,
            [self._queue[place].pair for place in places],
            act,
            round=self._task.round,
            source=self._queue[places[0]].source,
            rubric=self._task.rubric.version,
            **fields,
        )

    def _on_go(self, message) -> None:
        self._at = min(max(int(message["place"]), 0), len(self._queue))
        self._show()

    def _on_want(self, message) -> None:
        small = bool(message.get("small"))
        for number in message["pictures"]:
            if not (isinstance(number, int) and 0 <= number < len(self._pictures)):
                raise ValueError("not a picture of this page; reload it")
            try:
                path = self._collection.path(self._pictures[number])
                content = jpeg(open_image(path), SMALL) if small else picture_bytes(path)
                self._send({"kind": "picture", "number": number, "small": small}, [content])
            except ValueError as error:
                reason = str(error).rsplit(": ", 1)[-1].replace(str(self._collection.folder), "")
                self._send(
                    {"kind": "picture", "number": number, "small": small, "error": reason.strip()}
                )

    def _show(self, serial: str | int | None = None) -> None:
        n = len(self._queue)
        latest = {place: acts[-1] for place, acts in self._own_acts().items()}
        listed = self._listed(self._at)
        following = [i for i in range(listed.stop, n) if i not in latest][:AHEAD]
        ahead = [name for i in following if self._queue[i].list < 0 for name in self._queue[i].pair]
        lists = [
            self._queue[i]
            for j in following[:1]
            for i in self._listed(j)
            if self._queue[j].list >= 0
        ]
        seconds = [act.seconds for act in list(latest.values())[-20:] if act.seconds is not None]
        counts = Counter(act.grade if act.act == "grade" else act.act for act in latest.values())
        state = self._more() | {
            "kind": "state",
            "serial": serial,
            "annotator": self._annotator,
            "place": self._at,
            "round": self._task.round,
            "total": n,
            "done": len(latest),
            "lines": len(self._told()),
            "known_as": self._known_as,
            "pace": float(np.median(seconds)) if seconds else None,
            "counts": {str(name): count for name, count in counts.items()},
            "myself": _finite(self_agreement(self._journal, self._annotator)),
            "others": _finite(agreement_with_others(self._journal, self._annotator)),
            "ahead": [self._number[name] for name in [*ahead, *(item.left for item in lists[:1])]],
            "ahead_small": [self._number[item.right] for item in lists],
        }
        if self._at < n:
            item, act = self._queue[self._at], latest.get(self._at)
            state["pictures"] = [
                {"number": self._number[name], "name": shown(name)}
                for name in (item.left, item.right)
            ]
            if act:  # answers to another version's questions would stand beside the wrong ones
                answers = (
                    act.answers
                    if act.rubric == self._task.rubric.version and act.answers != REST
                    else ""
                )
                state["standing"] = {"act": act.act, "grade": act.grade, "answers": answers}
            if item.list >= 0:
                state["list"] = [self._result(place, latest.get(place)) for place in listed]
        self._send(state)

    def _more(self) -> dict[str, Any]:
        """What else the page is told of where it stands."""
        return {}

    def _result(self, place: int, act: Act | None) -> dict[str, Any]:
        """One result of a list, as the page shows it."""
        name = self._queue[place].right
        return {
            "place": place,
            "number": self._number[name],
            "name": shown(name),
            "standing": act and (act.act if act.grade is None else act.grade),
        }


def known_by(message: dict[str, Any]) -> str:
    """What a message that is sent again is known by: its serial, and what it tells, should a page
    count anew.
    """
    return repr([message.get(name) for name in ("serial", "kind", "place", "act", "grade")])


def looked(seconds: float) -> float | None:
    """Seconds as the journal holds them; None where the page did not know."""
    return round(min(max(seconds, 0), LONGEST_LOOK), 2) if seconds == seconds else None


def shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _finite(numbers: tuple) -> list[float | None]:
    return [None if np.isnan(number) else number for number in numbers]


def contact_sheet(pairs: pd.DataFrame, collection: Collection, n: int = 6) -> "Figure":
    """The first pairs as one static picture, each titled by its grade: what the widget shows where
    there is none.
    """
    from imgsearch_utils import plots

    first = pairs.head(n)
    tiles = thumbnails(collection, first[["image1", "image2"]].to_numpy().ravel(), side=220)
    grades = [
        "not graded yet" if np.isnan(grade) else f"grade {grade:.0f}" for grade in first.similarity
    ]
    return plots.picture_grid(
        [side_by_side(*two) for two in zip(tiles[::2], tiles[1::2])], grades, 3, 3.2
    )
