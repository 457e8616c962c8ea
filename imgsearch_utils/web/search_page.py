"""What the search page does: a picture in, what encoder and head find out, on from a result, votes
that rank anew.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgsearch_utils.grades.journal import AUTOMATIC, VOTE, Journal
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.images.collection import open_collection, thumbnails
from imgsearch_utils.images.decoding import MAX_UPLOAD, jpeg
from imgsearch_utils.images.near_duplicates import SAME_PICTURE
from imgsearch_utils.learning.model import calibrated_models
from imgsearch_utils.learning.promotion import why_in_use
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.search.service import Service
from imgsearch_utils.web.messages import refusing, serial_of
from imgsearch_utils.web.page_pictures import name_at, send_pictures
from imgsearch_utils.web.queues import voted
from imgsearch_utils.web.tagging_page import LONGEST_NAME
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.tables import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # half a second of imports that the page does not need

LONGEST_TEXT = 300  # letters of a description
QUERY = 900  # pixels, the longer side of an uploaded query
# results at most, pictures offered to begin with, queries to go back to
MOST, SAMPLES, TRAIL = (60, 12, 20)
ACTS = {"up": "vote_up", "down": "vote_down", "": "unvote"}


def static_page(run: Run) -> "Figure":
    """One of notebook 03's examples as a picture: what a published run shows where the page would
    be.

    The encoder's results above, the head's below, pale where P(similar) is below the threshold.
    """
    from imgsearch_utils import plots

    examples = read_table(run.results / "ann_comparison" / "examples.csv")
    examples = examples[examples["query"] == examples["query"].unique()[1]]
    curves = calibrated_models(run.last_round)
    collection, tiles, titles = open_collection(run), [], []
    for model, results in examples.groupby("model"):
        calibration = curves[model].calibration
        p_similar = calibration.predict(results.score)[:, 3]
        paler = [0, *(0.6 * (p_similar < calibration.threshold))]
        for tile, share in zip(
            thumbnails(collection, [results["query"].iloc[0], *results.image]), paler
        ):
            tiles.append(Image.blend(tile, Image.new("RGB", tile.size, "white"), share))
        titles += [
            f"query, {model}",
            *(f"{p:.0%} similar, score {s:.2f}" for p, s in zip(p_similar, results.score)),
        ]
    return plots.picture_grid(tiles, titles, columns=len(tiles) // 2)


@dataclass(frozen=True)
class Query:
    """What was asked: an uploaded picture, an image of the study, or words.

    vectors : (1, d) of the encoder
    row : of the database, where it is an image of the study
    marks : by row, "up" or "down", the votes on its results where it is no image of the study; they
    are kept nowhere"""

    text: str
    vectors: np.ndarray
    row: int | None = None
    picture: bytes = b""
    words: bool = False
    marks: dict[int, str] = field(default_factory=dict)


class Searching:
    """One visitor's searches: understands what the page sends, and sends back what encoder and head
    find.

    Encoder and head answer side by side. Votes on a query's results rank them anew at once
    (``Searcher.search``, like and unlike). Where the query is an image of the study they go to the
    run's journal, as weak evidence for the next round and as pairs to grade, never as grades; a
    published run is not written to, and its votes are forgotten.

    Parameters
    ----------
    service : gives the opened run; called when the page is shown, and what the run lacks is said on
        screen
    send : called with a message to the page and its buffers
    k : results to begin with
    votes : the run's journal, and a lock for who uses it; shared by all visitors of a server
    """

    def __init__(
        self,
        run: Run,
        service: Callable[[], Service],
        send: Callable[..., None],
        k: int = 12,
        votes: tuple[Journal, Any] | None = None,
    ):
        self._run, self._service, self._send, self._k = run, service, send, k
        self._journal, self._turn = votes or (Journal(run.journal), threading.RLock())
        self._trail: list[Query] = []
        self._upload = b""
        self._where = ""
        self._open = False

    def receive(self, message: Mapping[str, Any], buffers=()) -> None:
        """Do what the page asks; what cannot be done is sent back as one line."""
        with refusing(lambda line: self._refuse(message, line)):
            handle = {
                "hello": self._on_hello,
                "upload": self._on_upload,
                "words": self._on_words,
                "like": self._on_like,
                "back": self._on_back,
                "more": self._show,
                "vote": self._on_vote,
                "want": self._on_want,
            }[message["kind"]]
            self._k = min(max(int(message.get("k", self._k)), 1), MOST)
            self._where = str(message.get("where", ""))[:LONGEST_TEXT]
            handle(message, buffers)

    def _refuse(self, message, line: str) -> None:
        self._send(
            {"kind": "error", "serial": serial_of(message), "line": line, "fatal": not self._open}
        )

    def _on_hello(self, message, _) -> None:
        service = self._service()
        self._searchers, self._used = service.searchers, service.used
        self._number = {name: row for row, name in enumerate(self._used.names)}
        self._open = True
        used, n = self._used, len(self._used.names)
        samples = np.random.default_rng(self._run.study.seed).permutation(n)[:SAMPLES]
        try:
            used.encode_texts(["a word"])
            no_words = ""
        except ValueError as error:
            no_words = str(error)
        thresholds = {
            model: _plain(searcher.model.threshold) for model, searcher in self._searchers.items()
        }
        self._send(
            {
                "kind": "open",
                "run": self._run.name,
                "study": self._run.study.study,
                "images": n,
                "k": self._k,
                "encoder": self._run.study.encoder,
                "used": used.model.name,
                "thresholds": thresholds,
                "condition": used.labels.example(),
                "why": why_in_use(self._run, used.model.name),
                "by_classes": self._by_classes(),
                "no_words": no_words,
                "kept": not self._run.published,
                "waiting": self._waiting(),
                "teaches": len(self._run.rounds_made) < self._run.most_rounds,
                "limit": MAX_UPLOAD,
                "most": min(MOST, n),
                "samples": [self._image(row) for row in sorted(samples.tolist())],
            }
        )
        if self._trail:
            self._show(message, _)

    def _by_classes(self) -> bool:
        return bool(self._run.rounds_made) and self._run.last_round.by_classes

    def _on_upload(self, message, buffers) -> None:
        """One part of a file; after the last one, search."""
        before = self._upload if message["part"] else b""
        self._upload = b"".join([before, *map(bytes, buffers)])[: MAX_UPLOAD + 1]
        if not message["last"]:
            return
        content, self._upload = self._upload, b""
        try:
            vector, picture = self._service().encode(content, message.get("crops", 1))
        except ValueError as error:
            raise ValueError(f"“{message['file']}”: {error}") from None
        first = self._searchers["encoder"].search(vector[None], 1).iloc[0]
        row = self._number[first.image] if first.score >= SAME_PICTURE else None
        self._trail = self._trail[:-1] if message.get("again") else self._trail
        self._ask(Query(str(message["file"]), vector[None], row, jpeg(picture, QUERY)), message)

    def _on_words(self, message, _) -> None:
        text = message["text"].strip()[:LONGEST_TEXT]
        self._ask(Query(text, self._used.encode_texts([text]), words=True), message)

    def _on_like(self, message, _) -> None:
        name = self._name(message["row"])
        self._ask(Query(name, self._used.vectors_of([name]), message["row"]), message)

    def _name(self, row: int) -> str:
        return name_at(self._used.names, row)

    def _on_back(self, message, _) -> None:
        self._trail = self._trail[:-1] or self._trail
        self._show(message, _)

    def _ask(self, query: Query, message) -> None:
        self._trail = [*self._trail[1 - TRAIL :], query]
        self._show(message, ())

    def _show(self, message, _) -> None:
        if not self._trail:
            raise ValueError("nothing was asked yet; choose a picture")
        query = self._trail[-1]
        votes = self._votes_of(query, _annotator(message))
        marked = {
            way: [row for row, vote in votes.items() if vote == way] for way in ("up", "down")
        }
        self._send(
            {
                "kind": "results",
                "serial": serial_of(message),
                "text": query.text,
                "words": query.words,
                "image": None if query.row is None else self._image(query.row),
                "uploaded": bool(query.picture),
                "back": len(self._trail) > 1,
                "votes": votes,
                "marked": {way: [self._image(row) for row in rows] for way, rows in marked.items()},
                "results": {
                    model: self._results(searcher, query, marked)
                    for model, searcher in self._searchers.items()
                },
            },
            [query.picture],
        )

    def _results(
        self, searcher: Searcher, query: Query, marked: dict[str, list[int]]
    ) -> list[dict]:
        like, unlike = (
            searcher.vectors_of([self._used.names[row] for row in marked[way]])
            for way in ("up", "down")
        )
        results = searcher.search(
            query.vectors,
            self._k,
            calibrated=not query.words,
            like=like,
            unlike=unlike,
            allowed=searcher.only(self._where),
        )
        return [
            {**self._image(self._number[name]), "score": float(score), "p": _plain(p)}
            for name, score, p in zip(results.image, results.score, results.p_similar)
        ]

    def _image(self, row: int) -> dict:
        labels = self._used.labels.of(np.array([row]))
        classes = [labels[name][0] for name in self._used.labels.classes]
        return {"row": row, "name": self._used.names[row], "classes": list(dict.fromkeys(classes))}

    def _votes_of(self, query: Query, annotator: str) -> dict[int, str]:
        """How this annotator voted on the query's results, by their rows."""
        if query.row is None or self._run.published:
            return dict(query.marks)
        mine, name = {}, self._used.names[query.row]
        with self._turn:
            votes = self._journal.search_votes()
        for pair, by_annotator in votes.items():
            other = pair[pair[0] == name] if name in pair else None
            if annotator in by_annotator and other in self._number:
                mine[self._number[other]] = by_annotator[annotator].act.removeprefix("vote_")
        return mine

    def _waiting(self) -> int:
        with self._turn:
            return len(voted(self._journal))

    def _on_vote(self, message, _) -> None:
        serial, row, vote = serial_of(message, needed=True), message["row"], message["vote"]
        act, name, asked, grade = ACTS[vote], self._name(row), message["query"], None
        query = None if asked is None else self._name(asked)
        if [query, name] != message["names"]:
            raise ValueError("the images of this page have changed since it was opened; reload it")
        if query == name:
            raise ValueError("the query itself is like itself; vote on another result")
        if query is None or self._run.published:
            if not (self._trail and self._trail[-1].row == asked):
                raise ValueError("this query is gone; ask again")
            self._trail[-1].marks.pop(row, None)
            self._trail[-1].marks.update({row: vote} if vote else {})
        else:
            grade = self._keep(_annotator(message), key(query, name), act)
        self._send(
            {
                "kind": "voted",
                "serial": serial,
                "row": row,
                "vote": vote,
                "waiting": self._waiting(),
                "grade": grade,
                "kept": query is not None and not self._run.published,
            }
        )
        if self._trail and self._trail[-1].row == asked:
            self._show(message, _)

    def _keep(self, annotator: str, pair: tuple[str, str], act: str) -> int | None:
        """Write a vote to the journal; the pair's grade, where it has one that stands."""
        with self._turn:
            stands = self._journal.search_votes().get(pair, {}).get(annotator)
            # else it was written, and its answer was lost
            if act != (stands.act if stands else "unvote"):
                self._journal.append(
                    annotator, *pair, act, source=VOTE, round=len(self._run.rounds_made)
                )
            labels = self._journal.labels()
        graded = labels[
            (labels.image1 == pair[0]) & (labels.image2 == pair[1]) & (labels.source != AUTOMATIC)
        ]
        return int(graded.similarity.iloc[0]) if len(graded) else None

    def _on_want(self, message, _) -> None:
        send_pictures(
            self._send,
            self._used.collection,
            self._used.names,
            message["rows"],
            bool(message["large"]),
        )


def _annotator(message) -> str:
    return str(message["name"]).strip()[:LONGEST_NAME] or "visitor"


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
