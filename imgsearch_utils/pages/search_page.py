"""The search widget: drop a picture, see what encoder and head find, go on from a result, vote on it."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import numpy as np
from PIL import Image

from imgsearch_utils.labels.journal import AUTOMATIC, Journal
from imgsearch_utils.labels.pairs import key
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.pages.queues import voted
from imgsearch_utils.pages.tagger import picture_bytes
from imgsearch_utils.pictures.collection import open_collection, thumbnails
from imgsearch_utils.pictures.decoding import jpeg, open_image
from imgsearch_utils.pictures.duplicates import SAME_PICTURE
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.tables import read_own
from imgsearch_utils.workspace import Run, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # half a second of imports that the page does not need

MAX_UPLOAD = 20_000_000  # bytes
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # none that starts another program to be read
SMALL, QUERY = 320, 900  # pixels, the longer side of a picture in the grid, and of an uploaded query
MOST, SAMPLES, TRAIL = 60, 12, 20  # results at most, pictures offered to begin with, queries to go back to
ACTS = {"up": "vote_up", "down": "vote_down", "": "unvote"}


def read_upload(content: bytes) -> Image.Image:
    """Decode an uploaded picture of a common format, as ``images.open_image``; it is on disk meanwhile, then gone.

    Raises
    ------
    ValueError
        one line without a path, for more than 20 MB and for what is not a sound picture.
    """
    if len(content) > MAX_UPLOAD:
        raise ValueError(f"more than {MAX_UPLOAD // 10**6} MB; make it smaller first")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        file = Path(folder) / "upload"
        file.write_bytes(content)
        try:
            Image.open(file, formats=FORMATS).close()
            return open_image(file)
        except Exception as error:  # decoders of broken files raise many kinds
            known = not content or "cannot identify" in str(error)
            reason = "" if known else f" ({str(error).removeprefix(f'{str(file)!r}: ')})"
            raise ValueError(f"{'not' if content else 'an empty file, not'} a picture that can be read{reason}; try a "
                             "JPEG or PNG") from None


def static_page(run: Run) -> "Figure":
    """One of notebook 03's examples as a picture: what a published run shows where the page would be.

    The encoder's results above, the head's below, pale where P(similar) is below the threshold.
    """
    from imgsearch_utils import plots

    examples = read_own(run.results / "ann_comparison" / "examples.csv")
    examples = examples[examples["query"] == examples["query"].unique()[1]]
    curves = read_json(run.last_round.model / "calibration.json")
    collection, tiles, titles = open_collection(run), [], []
    for model, results in examples.groupby("model"):
        calibration = Calibration.from_dict(curves[model])
        p_similar = calibration.predict(results.score)[:, 3]
        paler = [0, *(0.6 * (p_similar < calibration.threshold))]
        for tile, share in zip(thumbnails(collection, [results["query"].iloc[0], *results.image]), paler):
            tiles.append(Image.blend(tile, Image.new("RGB", tile.size, "white"), share))
        titles += [f"query, {model}", *(f"{p:.0%} similar, score {s:.2f}" for p, s in zip(p_similar, results.score))]
    return plots.picture_grid(tiles, titles, columns=len(tiles) // 2)


class Query(NamedTuple):
    """What was asked: an uploaded picture, an image of the study, or words.

    vectors : (1, d) of the encoder
    row : of the database, where it is an image of the study
    """

    text: str
    vectors: np.ndarray
    row: int | None = None
    picture: bytes = b""
    words: bool = False


class SearchPage(anywidget.AnyWidget):
    """Search a run's images by picture, by words where the encoder reads them, or by one of the images.

    Encoder and head answer side by side. Votes go to the run's journal as pairs to grade, never as grades; a
    published run is not written to and takes none.

    Parameters
    ----------
    run : opened when the page is shown; what it lacks is said on screen
    k : results to begin with
    """

    _esm = Path(__file__).with_name("search_page.js")
    _css = Path(__file__).with_name("search_page.css")

    def __init__(self, run: Run, k: int = 12):
        super().__init__()
        self._run, self._k, self._journal = run, k, Journal(run.journal)
        self._votes = not run.published
        self._searchers: dict[str, Searcher] = {}
        self._trail: list[Query] = []
        self._upload = b""
        self.on_msg(self._receive)

    def _receive(self, _, message: Mapping[str, Any], buffers) -> None:
        answer = {"hello": self._on_hello, "upload": self._on_upload, "words": self._on_words, "like": self._on_like,
                  "back": self._on_back, "more": self._show, "vote": self._on_vote,
                  "want": self._on_want}[message["kind"]]  # fmt: skip
        try:
            self._k = min(max(int(message.get("k", self._k)), 1), MOST)
            answer(message, buffers)
        except (OSError, ValueError, RuntimeError) as error:  # nothing on screen changes but one line
            line = " ".join(str(error).split())
            self.send({"kind": "error", "serial": message.get("serial"), "line": line, "fatal": not self._searchers})

    def _on_hello(self, message, _) -> None:
        if not self._searchers:
            self._open()
        used, n = self._used, len(self._used.names)
        samples = np.random.default_rng(self._run.study.seed).permutation(n)[:SAMPLES]
        try:
            used.encode_texts(["a word"])
            no_words = ""
        except ValueError as error:
            no_words = str(error)
        thresholds = {model: _plain(searcher.model.threshold) for model, searcher in self._searchers.items()}
        self.send({"kind": "open", "run": self._run.name, "study": self._run.study.study, "images": n, "k": self._k,
                   "encoder": self._run.study.encoder, "used": used.model.name, "thresholds": thresholds,
                   "no_words": no_words, "votes": self._votes, "waiting": len(voted(self._journal)),
                   "limit": MAX_UPLOAD, "most": min(MOST, n),
                   "samples": [self._image(row) for row in sorted(samples.tolist())]})  # fmt: skip
        if self._trail:
            self._show(message, _)

    def _open(self) -> None:
        self._used = Searcher.open(self._run)  # what search uses
        self._number = {name: row for row, name in enumerate(self._used.names)}
        searchers = {}
        for model in ("encoder", "head"):
            try:
                searchers[model] = self._used if self._used.model.name == model else Searcher.open(self._run, model)
            except ValueError:  # no head yet: the encoder answers alone
                continue
        self._searchers = searchers

    def _on_upload(self, message, buffers) -> None:
        """One part of a file; after the last one, search."""
        before = self._upload if message["part"] else b""
        self._upload = b"".join([before, *map(bytes, buffers)])[: MAX_UPLOAD + 1]
        if not message["last"]:
            return
        content, self._upload = self._upload, b""
        try:
            picture = read_upload(content)
        except ValueError as error:
            raise ValueError(f"“{message['file']}”: {error}") from None
        encoder = self._searchers["encoder"]
        vectors = encoder.encode([picture])
        first = encoder.search(vectors, 1).iloc[0]
        row = self._number[first.image] if first.score >= SAME_PICTURE else None
        self._ask(Query(message["file"], vectors, row, jpeg(picture, QUERY)), message)

    def _on_words(self, message, _) -> None:
        text = message["text"].strip()
        self._ask(Query(text, self._used.encode_texts([text]), words=True), message)

    def _on_like(self, message, _) -> None:
        name = self._used.names[message["row"]]
        self._ask(Query(name, self._used.vectors_of([name]), message["row"]), message)

    def _on_back(self, message, _) -> None:
        self._trail = self._trail[:-1] or self._trail
        self._show(message, _)

    def _ask(self, query: Query, message) -> None:
        self._trail = [*self._trail[1 - TRAIL :], query]
        self._show(message, ())

    def _show(self, message, _) -> None:
        query = self._trail[-1]
        self.send({"kind": "results", "serial": message.get("serial"), "text": query.text, "words": query.words,
                   "image": None if query.row is None else self._image(query.row), "uploaded": bool(query.picture),
                   "back": len(self._trail) > 1, "votes": self._votes_of(query, message["name"]),
                   "results": {model: self._results(searcher, query) for model, searcher in self._searchers.items()},
                   }, [query.picture])  # fmt: skip

    def _results(self, searcher: Searcher, query: Query) -> list[dict]:
        found = searcher.search(query.vectors, self._k, calibrated=not query.words)
        return [{**self._image(self._number[name]), "score": float(score), "p": _plain(p)}
                for name, score, p in zip(found.image, found.score, found.p_similar)]  # fmt: skip

    def _image(self, row: int) -> dict:
        classes = self._used.labels.iloc[row].reindex(self._used.collection.class_columns).dropna()
        return {"row": row, "name": self._used.names[row], "classes": list(dict.fromkeys(classes))}

    def _votes_of(self, query: Query, annotator: str) -> dict[int, str]:
        """How this annotator voted on pairs with the query, by the other image's row."""
        mine, name = {}, None if query.row is None else self._used.names[query.row]
        for pair, by_annotator in self._journal.search_votes().items():
            if name in pair and annotator in by_annotator:
                other = pair[pair[0] == name]
                mine[self._number.get(other)] = by_annotator[annotator].act.removeprefix("vote_")
        return mine

    def _on_vote(self, message, _) -> None:
        pair = key(self._used.names[message["query"]], self._used.names[message["row"]])
        self._journal.append(message["name"], *pair, ACTS[message["vote"]], source="search")
        labels = self._journal.labels()
        graded = labels[(labels.image1 == pair[0]) & (labels.image2 == pair[1]) & (labels.source != AUTOMATIC)]
        self.send({"kind": "voted", "serial": message["serial"], "row": message["row"], "vote": message["vote"],
                   "waiting": len(voted(self._journal)),
                   "grade": int(graded.similarity.iloc[0]) if len(graded) else None})  # fmt: skip

    def _on_want(self, message, _) -> None:
        for row in message["rows"]:
            answer, content = {"kind": "picture", "row": row, "large": message["large"]}, b""
            try:
                if self._used.collection.folder is None:
                    raise ValueError("this study has vectors only")
                path = self._used.collection.path(self._used.names[row])
                content = picture_bytes(path) if message["large"] else jpeg(open_image(path), SMALL)
            except ValueError:
                answer["missing"] = True
            self.send(answer, [content])


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
