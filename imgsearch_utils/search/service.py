"""Search for many at once: a run opened one time, and pictures that wait together encoded
together.
"""

import contextlib
import functools
import io
import json
import os
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from imgsearch_utils.encoders.onnx_encoder import KeptEncoder
from imgsearch_utils.images.decoding import MAX_UPLOAD, decode, open_image, reads_heif
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search.searcher import Searcher, crops_of
from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import Run

if TYPE_CHECKING:
    from imgsearch_utils.encoders.encoder import Encoder

# none that starts another program to be read
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MOST, MOST_EXPANDED = 1000, 100  # results of one question, and first results that are added to it
MOST_EXAMPLES = 20  # of one question
WAITING = 256  # pictures that wait to be encoded; the next is refused
# what an uploaded file has wrong is said to who uploaded it
warnings.filterwarnings("ignore", module=r"PIL\.")


class Busy(RuntimeError):
    """More pictures wait than can be answered in good time."""


def read_upload(content: bytes) -> Image.Image:
    """Decode an uploaded picture of a common format, as ``open_image``, in memory.

    Raises
    ------
    ValueError
        one line, for more than 20 MB and for what is not a sound picture.
    """
    if len(content) > MAX_UPLOAD:
        raise ValueError(f"more than {MAX_UPLOAD // 10**6} MB; make it smaller first")
    try:
        formats = [*FORMATS, "HEIF"] if reads_heif() else FORMATS
        return decode(io.BytesIO(content), formats)
    except Exception as error:  # decoders of broken files raise many kinds
        known = not content or "cannot identify" in str(error)
        reason = "" if known else f" ({' '.join(str(error).split())})"
        raise ValueError(
            f"{'not' if content else 'an empty file, not'} a picture that can be read{reason}; "
            "try a "
            "JPEG or PNG"
        ) from None


class PictureQueue:
    """Pictures on their way to vectors: a few threads take what waits.

    A kept network is run by several threads at once. torch's is not; `faster` takes the encoder's
    network for many files instead. A GPU gets as many pictures at once as wait, up to a batch."""

    def __init__(self, encoder: "Encoder | KeptEncoder"):
        without_torch = isinstance(encoder, KeptEncoder)
        self._encoder, self._turn = (
            encoder,
            contextlib.nullcontext() if without_torch else threading.Lock(),
        )
        self._most = 1 if without_torch else encoder.batch
        self._waiting: Queue[tuple[bytes | Image.Image, Future]] = Queue(WAITING)
        self._workers = max(1, min(4, os.cpu_count() or 1))
        for _ in range(self._workers):
            threading.Thread(target=self._work, daemon=True).start()

    def faster(self) -> None:
        """Go over to a network that several threads run at once, where there is one; takes
        seconds.
        """
        if not isinstance(self._encoder, KeptEncoder) and (bulk := self._encoder.bulk()):
            self._encoder, self._turn = (
                replace(self._encoder, forward=bulk),
                contextlib.nullcontext(),
            )

    def encode(self, content: bytes, crops: int = 1) -> tuple[np.ndarray, Image.Image]:
        """The encoder's vector (d,) of an uploaded picture, and the picture.

        crops : the mean of as many normalised vectors, as of ``Searcher.encode``

        Raises
        ------
        ValueError for what is not a sound picture (see ``read_upload``), and a number of crops that
            is none
        Busy
            where too many wait
        """
        vector, picture = self._wait_for(content).result()
        if crops == 1:
            return vector, picture
        vectors = [self._wait_for(crop) for crop in crops_of(picture, crops)[1:]]
        return normalised(np.stack([vector, *(each.result()[0] for each in vectors)])).mean(
            0
        ), picture

    def _wait_for(self, picture: bytes | Image.Image) -> Future:
        answer: Future = Future()
        try:
            self._waiting.put_nowait((picture, answer))
        except Full:
            raise Busy(f"{WAITING} pictures wait already; try again in a moment") from None
        return answer

    def _work(self) -> None:
        while True:
            waiting_together = [self._waiting.get()]
            # leave the other threads theirs
            share = -(-(1 + self._waiting.qsize()) // self._workers)
            with contextlib.suppress(Empty):
                while len(waiting_together) < min(share, self._most):
                    waiting_together.append(self._waiting.get_nowait())
            good = []
            for picture, answer in waiting_together:
                try:
                    good.append(
                        (read_upload(picture) if isinstance(picture, bytes) else picture, answer)
                    )
                except Exception as error:
                    answer.set_exception(error)
            if good:
                self._answer(*zip(*good))

    def _answer(self, pictures: Sequence[Image.Image], answers: Sequence[Future]) -> None:
        try:
            with self._turn:
                vectors = self._encoder.encode_images(pictures)
        except Exception as error:
            for answer in answers:
                answer.set_exception(error)
        else:
            for vector, picture, answer in zip(vectors, pictures, answers):
                answer.set_result((vector, picture))


class Service:
    """A run's database, opened once; its methods may be called from several threads at a time.

    used : what search uses; searchers : by model, "encoder" and, once it is trained, "head"

    Raises
    ------
    ValueError
        where the run has no vectors, or a saved file of it is broken.
    """

    def __init__(self, run: Run):
        self.run, self._began = run, time.monotonic()
        self.used = Searcher.open(run)
        self.searchers = {self.used.model.name: self.used}
        with contextlib.suppress(ValueError):  # no head yet: the encoder answers alone
            other = "encoder" if self.used.model.name == "head" else "head"
            self.searchers[other] = Searcher.open(run, other)
        self.searchers = {
            name: self.searchers[name] for name in ("encoder", "head") if name in self.searchers
        }
        self._one_at_a_time, self._being_made = threading.Lock(), threading.Lock()

    def _pictures(self) -> PictureQueue:
        # a cached property alone would make two, where two ask at once
        with self._being_made:
            return self._queue

    @functools.cached_property
    def _queue(self) -> PictureQueue:
        return PictureQueue(self.used.encoder)

    def warm_up(self) -> None:
        """Load the networks before somebody asks; nothing where the vectors were made elsewhere."""
        with contextlib.suppress(ValueError):
            self._pictures().faster()
            gray = io.BytesIO()
            Image.new("RGB", (64, 64), "gray").save(gray, "PNG")
            self.search(picture=gray.getvalue())

    def encode(self, content: bytes, crops: int = 1) -> tuple[np.ndarray, Image.Image]:
        """The encoder's vector (d,) of an uploaded picture, and the picture: see
        ``PictureQueue.encode``.
        """
        return self._pictures().encode(content, crops)

    def search(
        self,
        *,
        picture: bytes = b"",
        image: str = "",
        words: str = "",
        like: Sequence[bytes | str] = (),
        unlike: Sequence[bytes | str] = (),
        k: int = 10,
        model: str = "",
        expand: int = 0,
        rerank: str = "",
        crops: int = 1,
        where: str = "",
    ) -> dict[str, Any]:
        """Rank the run's images for a picture, one of its images by name, words, or several of
        these together.

        Parameters
        ----------
        picture, image, words : a file's content, a name, a text
        like, unlike : further examples of what is looked for, and of what is not: files' contents
            and names, 20 in all
        k : results, 1 to 1000
        model : "encoder" or "head"; what search uses when empty (where there are words, the
            encoder)
        expand : so many first results are added to the query, 0 to 100
        rerank : "reciprocal", or nothing: see ``Searcher.search``
        crops : so many crops of each picture are looked at, 1 to 10; not of an image by name, whose
            vector is there
        where : a condition on the labels, see ``Metadata.where``; all images when empty

        Returns
        -------
        study, run, model, index, pictures (how many are searched), threshold (of p_similar; None
        where unknown), notice (see ``Searcher``), query, close_match, and results: rank, image, its
        labels, score, p_similar (None unless one picture alone is looked for), close

        Raises
        ------
        ValueError
            for a question that cannot be answered, in one line
        Busy
            where too many pictures wait
        """
        examples = [example for example in (picture, image, *like) if example]
        if not examples and not words:
            raise ValueError("ask with a picture, an image's name, or words")
        if len(examples) + len(unlike) > MOST_EXAMPLES:
            raise ValueError(f"at most {MOST_EXAMPLES} examples, got {len(examples) + len(unlike)}")
        if not (1 <= k <= MOST and 0 <= expand <= MOST_EXPANDED):
            raise ValueError(
                f"k must be 1 to {MOST} and expand 0 to {MOST_EXPANDED}, got {k} and {expand}"
            )
        searcher = self.searcher(model or ("encoder" if words else ""))
        wanted = self._vectors(searcher, examples, crops)
        if words:
            with self._one_at_a_time:
                wanted = [*wanted, *searcher.encode_texts([words])]
        found = searcher.ranked(
            np.stack(wanted[:1]),
            k,
            expand,
            calibrated=len(wanted) == 1 and not words,
            like=np.array(wanted[1:]),
            unlike=np.array(self._vectors(searcher, unlike, crops)),
            rerank=rerank,
            allowed=searcher.only(where),
        )
        del found["query"]
        rows = zip(*(column.tolist() for column in found.values()))
        results = [
            {name: None if value != value else value for name, value in zip(found, row)}
            for row in rows
        ]
        return {
            **self._about(searcher),
            "query": image or words,
            "close_match": bool(found["close"].any()),
            "results": results,
        }

    def _vectors(
        self, searcher: Searcher, examples: Sequence[bytes | str], crops: int
    ) -> list[np.ndarray]:
        """The encoder's vector (d,) of each example."""
        return [
            self.encode(example, crops)[0]
            if isinstance(example, bytes)
            else searcher.vectors_of([example])[0]
            for example in examples
        ]

    def searcher(self, model: str = "") -> Searcher:
        """The searcher by model, that which search uses when empty."""
        if model and model not in self.searchers:
            absent = model == "head"
            raise ValueError(
                f"run {self.run.name} has no head yet; take the encoder"
                if absent
                else f"no model is called {model}. {nearest(model, self.searchers)}"
            )
        return self.searchers[model] if model else self.used

    def classify(self, *, picture: bytes = b"", image: str = "") -> dict[str, Any]:
        """Name the class of a picture, or of one of the run's images by name.

        Returns
        -------
        study, run, level (the class column), query, and classes: method, rank, class, p, calibrated

        Raises
        ------
        ValueError
            for a question that cannot be answered, and for a run without classes.
        """
        from imgsearch_utils.search import classify as classifying  # scikit-learn and scipy

        if bool(picture) == bool(image):
            raise ValueError("ask with one of two: a picture, or an image's name")
        if image:
            vectors, shown = (
                self.used.vectors_of([image]),
                open_image(self.used.collection.path(image)),
            )
        else:
            vector, shown = self.encode(picture)
            vectors = vector[None]
        with self._one_at_a_time:  # torch's networks, and the classifier is fitted once
            classifier = self._classifier
            tables = [
                classifier.classify(vectors),
                classifying.ready_made([shown], self.run.study.classifier),
            ]
            if self.used.encoder.encode_texts:
                classes = sorted(classifier.images.table[classifier.level].unique())
                tables.insert(1, classifying.by_words(self.used.encoder, vectors, classes))
        classes_found = pd.concat(tables, ignore_index=True).drop(columns="query")
        return {
            "study": self.run.study.study,
            "run": self.run.name,
            "level": classifier.level,
            "query": image,
            "classes": _records(classes_found),
        }

    @functools.cached_property
    def _classifier(self):
        from imgsearch_utils.search.classify import Classifier

        return Classifier.fit(self.run)

    def health(self) -> dict[str, Any]:
        """The run, its model, how many images, and for how long (s) it has been open."""
        return {
            **self._about(self.used),
            "encoder": self.run.study.encoder,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
        }

    def _about(self, searcher: Searcher) -> dict[str, Any]:
        threshold = float(searcher.model.threshold) if searcher.model.calibration else None
        return {
            "study": self.run.study.study,
            "run": self.run.name,
            "model": searcher.model.name,
            "index": searcher.index.name,
            "pictures": len(searcher.names),
            "threshold": threshold,
            "notice": searcher.notice,
        }


def _records(table: pd.DataFrame) -> list[dict]:
    return json.loads(table.to_json(orient="records"))
