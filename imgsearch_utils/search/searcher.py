"""Search: from a picture, words or known images to ranked answers with a calibrated P(similar)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from imgsearch_utils import indexes, workspace
from imgsearch_utils.encoders.embed_collection import load_embeddings
from imgsearch_utils.images.collection import Collection, known_collection
from imgsearch_utils.images.decoding import open_image
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.label_conditions import Metadata
from imgsearch_utils.learning.model import Model, head_left_out, model_in_use, model_vectors
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search.database import encoder_of, known_as, open_index, open_metadata
from imgsearch_utils.search.reranking import FIRST, RERANK, reranked
from imgsearch_utils.workspace import Run, find_run

if TYPE_CHECKING:
    from imgsearch_utils.encoders.encoder import Encoder  # and torch with it
    from imgsearch_utils.encoders.onnx_encoder import KeptEncoder

# where the crops of 80 % lie: the middle, the corners
CORNERS = [(0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1)]
MAX_CROPS = 2 * len(CORNERS)
# weight of what a query's answers shall not be like, against 1 of what they shall be like
UNLIKE = 0.4
FEW = 20_000  # images that are all compared with a query where it is asked of some images alone
NEAR = 50  # results among which a query has one that is near, if it is of the collection's kind


def crops_of(picture: Image.Image, n: int) -> list[Image.Image]:
    """The picture, then crops of 80 % of its sides: the middle, four corners, and these mirrored;
    `n` in all.
    """
    if not 1 <= n <= MAX_CROPS:
        raise ValueError(f"crops must be 1 to {MAX_CROPS}, got {n}")
    width, height = picture.size
    wide, high = max(1, round(0.8 * width)), max(1, round(0.8 * height))
    corners = [(round(x * (width - wide)), round(y * (height - high))) for x, y in CORNERS]
    crops = [picture.crop((left, top, left + wide, top + high)) for left, top in corners[: n - 1]]
    return [picture, *crops, *(ImageOps.mirror(crop) for crop in crops[: n - 1 - len(crops)])]


def expanded(queries: np.ndarray, neighbours: np.ndarray, alpha: float) -> np.ndarray:
    """Alpha query expansion: each query and its neighbours, a neighbour weighing its cosine to the
    power of alpha.

    Radenovic, Tolias & Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 41,
    2019.

    queries : (n, d) of length 1
    neighbours : (n, m, d) of length 1; zeros where there are fewer
    Returns (n, d) of length 1.
    """
    weights = np.einsum("nmd,nd->nm", neighbours, queries).clip(0) ** alpha
    return normalised(queries + np.einsum("nm,nmd->nd", weights, neighbours))


def rocchio(queries: np.ndarray, like: np.ndarray, unlike: np.ndarray) -> np.ndarray:
    """Each query moved by examples: the mean of it and `like`, less ``UNLIKE`` times the mean of
    `unlike`.

    Rocchio, Relevance Feedback in Information Retrieval, in Salton (ed.), The SMART Retrieval
    System, 1971; the weight is measured by ``benchmarks.examples``.

    queries : (n, d) of length 1
    like, unlike : (m, d) of length 1; may be empty
    Returns (n, d) of length 1.
    """
    moved_queries = (queries + like.sum(0)) / (1 + len(like))
    return normalised(moved_queries - UNLIKE * unlike.mean(0) if len(unlike) else moved_queries)


@dataclass(frozen=True)
class Searcher:
    """A run's database, opened once and asked many times.

    model : what ranks the images, and says how similar they are
    database : the encoder's vectors of the images
    vectors : (n, e) the model's vectors of the same images
    labels : labels.csv's columns of the same images
    index, point : what is asked, and with which query arguments
    notice : what has to be said with each answer: that the model is not the one that the run's
        report is about; mostly empty
    """

    run: Run
    model: Model
    database: Embeddings
    vectors: np.ndarray
    labels: Metadata
    collection: Collection
    index: indexes.Index
    point: dict
    notice: str = ""

    @property
    def names(self) -> list[str]:
        """The images of the database, in the index's row order."""
        return self.database.names

    @classmethod
    def open(cls, run: Run, model: str = "", index: str = "") -> "Searcher":
        """Open a run's database.

        Parameters
        ----------
        model : "encoder" or "head"; the head where the latest round promoted it, else the encoder,
            when empty
        index : a registered name; when empty, what notebook 03 recommends for the model, else exact
            search

        Raises
        ------
        ValueError
            where the run has no vectors, for unknown names, or for a saved index that is broken.
        """
        database, chosen = load_embeddings(run), model_in_use(run, model)
        vectors, labels = model_vectors(run, database, chosen), open_metadata(run, database)
        return cls(
            run,
            chosen,
            database,
            vectors,
            labels,
            known_collection(run, database.names),
            *open_index(run, chosen.name, index, vectors, known_as(database, chosen)),
            notice="" if model else head_left_out(run),
        )

    @functools.cached_property
    def encoder(self) -> "Encoder | KeptEncoder":
        """The study's encoder; ValueError where the database was made by another."""
        return encoder_of(self.run, self.database)

    def encode(self, pictures: Sequence[Image.Image], crops: int = 1) -> np.ndarray:
        """Encoder vectors (n, d) of decoded pictures; with `crops`, the mean of as many normalised
        vectors of each.
        """
        vectors = self.encoder.encode_images(
            [crop for picture in pictures for crop in crops_of(picture, crops)]
        )
        return (
            vectors if crops == 1 else normalised(vectors).reshape(len(pictures), crops, -1).mean(1)
        )

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encoder vectors (n, d) of words; ValueError where the encoder has no tower for text."""
        encode = getattr(self.encoder, "encode_texts", None)
        if encode is None:
            raise ValueError(
                f"words need an open_clip encoder, and run {self.run.name} has "
                f"{self.run.study.encoder}: "
                "place a checkpoint here, write encoder: open_clip:<model>/<its path> in a "
                "study, run it"
            )
        return encode(list(texts))

    def vectors_of(self, images: Sequence[str]) -> np.ndarray:
        """Encoder vectors (n, d) of the database's images; ValueError names an unknown one."""
        return np.asarray(self.database.of(images), np.float32)

    def only(self, where: str) -> np.ndarray | None:
        """Rows of the images that a condition leaves (see ``Metadata.where``), None where there is
        no condition.

        Raises
        ------
        ValueError
            for what is no condition, and where it leaves none.
        """
        if not where:
            return None
        if not len(rows := self.labels.where(where)):
            raise ValueError(f"no picture is left where {where}")
        return rows

    def search(
        self,
        vectors: np.ndarray,
        k: int = 10,
        expand: int = 0,
        alpha: float = 3.0,
        calibrated: bool = True,
        like: np.ndarray | None = None,
        unlike: np.ndarray | None = None,
        rerank: str = "",
        allowed: np.ndarray | None = None,
    ) -> pd.DataFrame:
        """Rank the database for each query; all of it where k is larger.

        Parameters
        ----------
        vectors : (n, d) encoder vectors
        expand, alpha : so many first results are added to the query (see ``expanded``); 0 for none
        calibrated : off for queries that are not one picture, whose cosine says nothing of
            P(similar)
        like, unlike : (m, d) encoder vectors of examples that move each query (see ``rocchio``)
        rerank : "reciprocal" orders the first ``FIRST`` results by the neighbours that they share
            (``reciprocal_distances``); what follows stays
        allowed : rows of the images to choose among, as of ``only``; all when not given

        Returns
        -------
        query (0 .. n-1), rank (1 is best), image, the columns of `labels`, score (the model's
        cosine with the query, after examples and expansion), p_similar (of the cosine before them;
        NaN where not calibrated; 0 where the query is of another kind than the collection:
        ``Model.out_of_collection_cosine``), close (p_similar reaches the threshold); equal scores
        by name; re-ranked results are not in the order of their scores

        Raises
        ------
        ValueError for values out of range.
        """
        return pd.DataFrame(
            self.ranked(vectors, k, expand, alpha, calibrated, like, unlike, rerank, allowed)
        )

    def ranked(
        self,
        vectors: np.ndarray,
        k: int = 10,
        expand: int = 0,
        alpha: float = 3.0,
        calibrated: bool = True,
        like: np.ndarray | None = None,
        unlike: np.ndarray | None = None,
        rerank: str = "",
        allowed: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The columns of ``search``, as arrays: making a table of them takes longer than finding
        them.
        """
        if not (k >= 1 and expand >= 0 and 0 <= alpha < np.inf):
            raise ValueError(
                f"k must be at least 1, expand and alpha at least 0, got {k}, {expand} and {alpha}"
            )
        if rerank and rerank not in RERANK:
            raise ValueError(f"rerank is one of {', '.join(RERANK)}, or nothing; got {rerank!r}")
        queries = self.model.vectors(np.asarray(vectors))
        examples = [
            self.model.vectors(np.asarray(each)) if each is not None and len(each) else queries[:0]
            for each in (like, unlike)
        ]
        near = self._ids(queries, max(k, expand, NEAR))
        asked, first = queries, near
        if any(map(len, examples)) or allowed is not None:
            asked = rocchio(queries, *examples) if any(map(len, examples)) else queries
            first = self._ids(asked, max(k, expand), allowed)
        if expand:
            asked = expanded(asked, self._rows(first[:, :expand]), alpha)
            first = self._ids(asked, k, allowed)
        if rerank:
            first = self._reranked(asked, max(k, FIRST), allowed)
        ids = first[:, :k]
        query, place = np.nonzero(ids >= 0)
        ids = ids[query, place]
        score = np.einsum("nd,nd->n", self._rows(ids), asked[query])
        order = np.lexsort([place] if rerank else [self._names[ids], -score.round(6)])
        order = order[np.argsort(query[order], kind="stable")]
        ids, query, score = ids[order], query[order], score[order]
        cosine = (
            score if asked is queries else np.einsum("nd,nd->n", self._rows(ids), queries[query])
        )
        p_similar = self.model.p_similar(cosine) if calibrated else np.full(len(ids), np.nan)
        if calibrated:
            p_similar[self._out_of_reach(near, np.asarray(vectors))[query]] = 0
        rank = np.arange(len(ids)) - np.searchsorted(query, query) + 1
        return {
            "query": query,
            "rank": rank,
            "image": self._names[ids],
            **self.labels.of(ids),
            "score": score,
            "p_similar": p_similar,
            "close": p_similar >= self.model.threshold,
        }

    def _reranked(self, asked: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
        """Ids (n, k) of the first results, the first ``FIRST`` of them in another order.

        asked : (n, e) the model's vectors, moved and expanded
        """
        ids = self._ids(asked, k, allowed)
        for one, query in zip(ids, asked):
            first_ids = one[:FIRST][one[:FIRST] >= 0]
            one[: len(first_ids)] = first_ids[
                reranked(query, self._rows(first_ids), self._names[first_ids])
            ]
        return ids

    def _out_of_reach(self, ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Which queries (n,) are of another kind than the collection: none of its images `ids` (n,
        k) is near enough.

        vectors : (n, d) of the encoder, whose cosine decides whatever the model: a head says
            nothing about pictures unlike those that it learnt from
        """
        unit = normalised(self.database.vectors[ids.ravel()]) * (ids.ravel() >= 0)[:, None]
        cosine = np.einsum("nkd,nd->nk", unit.reshape(*ids.shape, -1), normalised(vectors))
        return cosine.max(1) < self.model.out_of_collection_cosine

    @functools.cached_property
    def _exact(self) -> indexes.Index:
        """Exact search among the model's vectors, whatever the index."""
        return indexes.Scan(self.vectors)

    @functools.cached_property
    def _names(self) -> np.ndarray:
        return np.array(self.names, object)

    def _ids(self, unit: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """Ids (n, k) of the nearest; -1 where there are fewer.

        allowed : among few images all are compared, as an index would have to pass over most of
        what it finds"""
        k = min(k, len(self.names))
        if allowed is None:
            return self.index.query(unit, k, **self.point)
        if len(allowed) <= FEW:
            return indexes.among(self.vectors, allowed, unit, k)
        if "filter" not in self.index.can():
            return self._exact.query(unit, k, allowed)
        return self.index.query(unit, k, allowed=allowed, **self.point)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Unit vectors of images by row number, of any shape of ids; zeros for -1."""
        flat = normalised(self.vectors[ids.ravel()]) * (ids.ravel() >= 0)[:, None]
        return flat.reshape(*ids.shape, -1)


def search(
    picture: Path | str | Image.Image,
    k: int = 10,
    study: str = "synthetic_houses",
    run: str = "",
    model: str = "",
    index: str = "",
) -> pd.DataFrame:
    """Rank a run's images for one picture, a file or decoded; columns as of ``Searcher.search``
    without `query`.

    The database stays open for the next call, until its vectors or its rounds change.
    """
    opened = find_run(study, run)
    stamps = [
        file.stat().st_mtime_ns
        for file in (opened.vectors / "encoder", opened.models)
        if file.is_dir()
    ]
    searcher = _opened(study, run, model, index, workspace.home(), *stamps)
    picture = picture if isinstance(picture, Image.Image) else open_image(Path(picture))
    return searcher.search(searcher.encode([picture]), k).drop(columns="query")


@functools.lru_cache(maxsize=2)
def _opened(study, run, model, index, *_) -> Searcher:
    return Searcher.open(find_run(study, run), model, index)
