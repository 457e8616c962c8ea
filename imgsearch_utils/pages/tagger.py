"""The labelling widget: two pictures, a grade by one key. Each act is in the journal before the next pair appears."""

import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import numpy as np
import pandas as pd
import traitlets

from imgsearch_utils.labels.agreement import agreement_with_others, self_agreement
from imgsearch_utils.labels.journal import REPEAT, Act, Journal
from imgsearch_utils.labels.pairs import canonical, key
from imgsearch_utils.pictures.collection import Collection, thumbnails
from imgsearch_utils.pictures.decoding import jpeg, open_image, side_by_side
from imgsearch_utils.study import Rubric

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # like `plots`, half a second of imports that the widget does not need

AHEAD = 3  # pairs whose pictures are loaded before they are shown
MAX_SIDE, MAX_BYTES = 1600, 1_000_000  # larger pictures are sent smaller
_BROWSER_FORMATS = {".jpg", ".jpeg", ".png", ".webp"}


class Item(NamedTuple):
    """One place in the queue; `source` is "repeat" where a pair is asked a second time."""

    left: str
    right: str
    source: str

    @property
    def pair(self) -> tuple[str, str]:
        return key(self.left, self.right)


def make_queue(pairs: pd.DataFrame, seed: int, annotator: str, repeats: float, source: str = "person") -> list[Item]:
    """Put pairs, and the two pictures of each, in an order that is random but the same for one seed and annotator.

    Parameters
    ----------
    repeats : share of the pairs that come again, at least a quarter of the queue later, left and right exchanged
    """
    n = len(pairs)
    rng = np.random.default_rng([seed, zlib.crc32(annotator.encode())])
    order, exchanged = rng.permutation(n), rng.random(n) < 0.5
    names = pairs[["image1", "image2"]].to_numpy(object)
    first = [Item(*names[row][:: -1 if exchange else 1], source) for row, exchange in zip(order, exchanged)]
    again = rng.permutation(n // 2)[: round(repeats * n)]
    second = [Item(first[i].right, first[i].left, REPEAT) for i in again]
    places = np.concatenate([np.arange(n), rng.uniform(again + max(1, n // 4), n)])
    queue = first + second
    return [queue[i] for i in np.argsort(places, kind="stable")]


def picture_bytes(path: Path) -> bytes:
    """A picture as a browser shows it: the file itself, or a JPEG of at most 1600 pixels where that is too much.

    Raises
    ------
    ValueError
        one line that names the file when it cannot be read.
    """
    if path.suffix.lower() in _BROWSER_FORMATS and path.is_file() and 0 < path.stat().st_size <= MAX_BYTES:
        return path.read_bytes()
    return jpeg(open_image(path), MAX_SIDE, quality=90)


class Tagger(anywidget.AnyWidget):
    """Show pairs of pictures and write a person's grades to a journal.

    Keys: 0 1 2 3 grade, S skip, R unsure, U undo, arrows browse, Z zoom, Shift+1 to Shift+9 answer a question of the
    rubric, Enter takes the grade that the rubric's rule proposes. The next pair appears when the last act is on disk.
    A new widget on the same journal, also in another kernel, continues where the annotator stopped.

    Parameters
    ----------
    pairs : image1, image2
    collection : where the pictures are; nothing outside its folder is ever sent
    journal : the journal or its path
    rubric : what people are asked, usually ``study.rubric``; each act is written with its version
    annotator : asked on screen when empty
    round : written to the journal; acts of other rounds do not count as done here
    seed : of the order of pairs and sides
    repeats : share of the pairs asked a second time, to measure agreement with oneself
    source : "person", or "adjudication" to overrule the annotators

    Raises
    ------
    ValueError
        when the study has no pictures, or there is no pair to show.
    """

    _esm = Path(__file__).with_name("tagger.js")
    _css = Path(__file__).with_name("tagger.css")
    rubric = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        pairs: pd.DataFrame,
        collection: Collection,
        journal: Journal | str | Path,
        rubric: Rubric = Rubric(),  # noqa: B008, it is frozen
        annotator: str = "",
        round: int = 0,
        seed: int = 0,
        repeats: float = 0.05,
        source: str = "person",
    ):
        if collection.folder is None:
            raise ValueError("this study has vectors only, no pictures to show; place them, or let an oracle answer")
        pairs = canonical(pairs).drop_duplicates(["image1", "image2"]).reset_index(drop=True)
        if pairs.empty:
            raise ValueError("no pair to show: every pair of this queue has its grade")
        super().__init__(rubric=rubric.model_dump(mode="json"))
        self._collection, self._version, self._round = collection, rubric.version, round
        self._journal = journal if isinstance(journal, Journal) else Journal(journal)
        self._queue_of = lambda name: make_queue(pairs, seed, name, repeats, source)
        self._pictures = list(dict.fromkeys(pairs[["image1", "image2"]].to_numpy(object).ravel()))
        self._number = {name: number for number, name in enumerate(self._pictures)}
        self._set_annotator(annotator)
        self.on_msg(self._receive)

    def _set_annotator(self, annotator: str) -> None:
        self._annotator = annotator.strip()
        self._queue = self._queue_of(self._annotator)
        self._place = {(*item.pair, item.source): i for i, item in enumerate(self._queue)}
        self._at = self._next_open(-1)

    def _own_acts(self) -> dict[int, list[Act]]:
        """This annotator's standing acts on this queue, by place, in the order of the last of each."""
        acts: dict[int, list[Act]] = {}
        for act in self._journal.standing():
            place = self._place.get((act.image1, act.image2, act.source))
            if act.annotator == self._annotator and act.round == self._round and place is not None:
                acts[place] = [*acts.pop(place, []), act]
        return acts

    def _next_open(self, place: int) -> int:
        """The first place after `place`, else from the start, without an answer; past the end when all have one."""
        done, n = self._own_acts(), len(self._queue)
        return next((i for i in [*range(place + 1, n), *range(place + 1)] if i not in done), n)

    def _receive(self, _, message: dict[str, Any], buffers) -> None:
        handle = {"hello": self._on_hello, "name": self._on_name, "act": self._on_act, "undo": self._on_undo,
                  "go": self._on_go, "want": self._on_want}[message["kind"]]  # fmt: skip
        try:
            handle(message)
        except (OSError, ValueError) as error:  # a full disk, a broken journal: shown, and nothing acknowledged
            self.send({"kind": "error", "serial": message.get("serial"), "line": " ".join(str(error).split())})

    def _on_hello(self, message) -> None:
        if not self._annotator and message.get("name"):
            self._set_annotator(message["name"])
        if self._at in self._own_acts():  # answered in another tab in the meantime
            self._at = self._next_open(self._at)
        self._show()

    def _on_name(self, message) -> None:
        self._set_annotator(message["name"])
        self._show()

    def _on_act(self, message) -> None:
        self._write(message["place"], message["act"], grade=message.get("grade"),
                    seconds=round(float(message["seconds"]), 2), answers=message.get("answers", ""))
        self._at = self._next_open(message["place"])
        self._show(message["serial"])

    def _on_undo(self, message) -> None:
        acts = self._own_acts()
        if acts:
            place = next(reversed(acts))
            self._write(place, "undo")
            self._at = place
        self._show(message["serial"])

    def _write(self, place: int, act: str, **fields) -> None:
        item = self._queue[place]
        self._journal.append(self._annotator, *item.pair, act, round=self._round, source=item.source,
                             rubric=self._version, **fields)

    def _on_go(self, message) -> None:
        self._at = min(max(int(message["place"]), 0), len(self._queue))
        self._show()

    def _on_want(self, message) -> None:
        for number in message["pictures"]:
            try:
                content = picture_bytes(self._collection.path(self._pictures[number]))
                self.send({"kind": "picture", "number": number}, [content])
            except ValueError as error:
                reason = str(error).rsplit(": ", 1)[-1].replace(str(self._collection.folder), "")
                self.send({"kind": "picture", "number": number, "error": reason.strip()})

    def _show(self, serial: str | None = None) -> None:
        n = len(self._queue)
        latest = {place: acts[-1] for place, acts in self._own_acts().items()}
        open_places = [i for i in range(self._at + 1, n) if i not in latest][:AHEAD]
        ahead = [name for i in open_places for name in self._queue[i].pair]
        seconds = [act.seconds for act in list(latest.values())[-20:] if act.seconds is not None]
        counts = Counter(act.grade if act.act == "grade" else act.act for act in latest.values())
        state = {
            "kind": "state",
            "serial": serial,
            "annotator": self._annotator,
            "place": self._at,
            "total": n,
            "done": len(latest),
            "pace": float(np.median(seconds)) if seconds else None,
            "counts": {str(name): count for name, count in counts.items()},
            "myself": _finite(self_agreement(self._journal, self._annotator)),
            "others": _finite(agreement_with_others(self._journal, self._annotator)),
            "ahead": [self._number[name] for name in ahead],
        }
        if self._at < n:
            item, act = self._queue[self._at], latest.get(self._at)
            state["pictures"] = [
                {"number": self._number[name], "name": name.encode("utf-8", "replace").decode()}
                for name in (item.left, item.right)
            ]
            if act:  # answers to another version's questions would stand beside the wrong ones
                answers = act.answers if act.rubric == self._version else ""
                state["standing"] = {"act": act.act, "grade": act.grade, "answers": answers}
        self.send(state)


def _finite(numbers: tuple) -> list[float | None]:
    return [None if np.isnan(number) else number for number in numbers]


def contact_sheet(pairs: pd.DataFrame, collection: Collection, n: int = 6) -> "Figure":
    """The first pairs as one static picture, each titled by its grade: what the widget shows where there is none."""
    from imgsearch_utils import plots

    first = pairs.head(n)
    tiles = thumbnails(collection, first[["image1", "image2"]].to_numpy().ravel(), side=220)
    grades = ["not graded yet" if np.isnan(grade) else f"grade {grade:.0f}" for grade in first.similarity]
    return plots.picture_grid([side_by_side(*two) for two in zip(tiles[::2], tiles[1::2])], grades, 3, 3.2)
