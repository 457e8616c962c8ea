"""Scoring any file of pairs by what a run has learnt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from imgsearch_utils.encoders.embed_collection import load_embeddings
from imgsearch_utils.grades.pairs import pair_parts
from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.vector_store import drop_page_cache
from imgsearch_utils.learning.model import Model, load_models
from imgsearch_utils.metrics.geometry import normalised, pair_cosines
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.tables import write_table

ROOM = (
    2**28
    # bytes of a model's vectors that are kept, so that they are computed once; of the database's,
    # mapped
)
BLOCK = 512  # pairs whose images' vectors are held at once: they stay in a processor's cache


def score_file(
    run: Run, file: Path, out: TextIO, watch: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Score any CSV of pairs by the run's latest head, part by part: memory does not grow with the
    file.

    Parameters
    ----------
    out : is written the file's columns, then those of ``PairScorer``, empty cells where an image is
        unknown
    watch : is told how many bytes of how many are read

    Returns
    -------
    pairs (how many), scored (those whose images are both known); `round`, `promoted`, `threshold`
    of the head; `unknown` images; and `anew`: the file's columns that bore a score's name and gave
    way to the new ones"""
    last, pairs, scored, unknown, anew = run.last_round, 0, 0, set(), []
    database, head = load_embeddings(run), load_models(last)["head"]
    score = PairScorer(database, head)
    for part in pair_parts(file, watch):
        rows = [database.find(part[name]) for name in ("image1", "image2")]
        has_vectors = (rows[0] >= 0) & (rows[1] >= 0)
        scores = (
            score(*(some[has_vectors] for some in rows)).set_index(part.index[has_vectors]).round(6)
        )
        anew = [name for name in part if name in scores]
        write_table(part.drop(columns=anew).join(scores), out, header=not pairs)
        unknown |= {*part.image1[rows[0] < 0], *part.image2[rows[1] < 0]}
        pairs, scored = pairs + len(part), scored + len(scores)
    return {
        "pairs": pairs,
        "scored": scored,
        "round": last.number,
        "promoted": last.metrics["promoted"],
        "threshold": head.threshold,
        "unknown": sorted(unknown),
        "anew": anew,
    }


class PairScorer:
    """Scores pairs of a database's images by a calibrated model, in bounded memory.

    Of the first images that are asked for, `room` bytes of the model's vectors are kept; other
    images' are computed again where they are asked for again."""

    def __init__(self, database: Embeddings, model: Model, room: int = ROOM):
        model.head.check_fits(database)
        self.model, self.vectors = model, database.vectors
        n, dim = self.vectors.shape
        width = model.vectors(np.zeros((1, dim), np.float32)).shape[1]
        self.kept = np.empty((min(n, room // (4 * width)), width), np.float32)
        self.place, self.n_kept = np.full(n, -1, np.int32), 0

    def __call__(self, i: np.ndarray, j: np.ndarray) -> pd.DataFrame:
        """Scores of pairs of the database's rows `i` and `j`, both (n,), a row a pair.

        score (the model's cosine), p_similar, p_grade_0 .. p_grade_3, cosine (the encoder's)
        """
        cosines = [
            self._cosines(i[at : at + BLOCK], j[at : at + BLOCK])
            for at in range(0, max(1, len(i)), BLOCK)
        ]
        score, cosine = map(np.concatenate, zip(*cosines))
        return pd.DataFrame(
            {"score": score, **self.model.calibration.columns(score), "cosine": cosine}
        )

    def _cosines(self, i, j):
        """By the model and by the encoder, both (len(i),)."""
        rows, places = np.unique(np.concatenate([i, j]), return_inverse=True)
        vectors = np.asarray(self.vectors[rows], np.float32)
        if self.vectors.nbytes > ROOM:
            drop_page_cache(self.vectors)
        return tuple(
            pair_cosines(unit, *places.reshape(2, -1))
            for unit in (self._unit(rows, vectors), normalised(vectors))
        )

    def _unit(self, rows, vectors):
        """The model's vectors (len(rows), e) of distinct rows of the database."""
        place = self.place[rows]
        new = np.flatnonzero(place < 0)
        unit = np.empty((len(rows), self.kept.shape[1]), np.float32)
        unit[place >= 0] = self.kept[place[place >= 0]]
        if len(new):
            unit[new] = self.model.vectors(vectors[new])
        to_keep = new[: len(self.kept) - self.n_kept]
        end = self.n_kept + len(to_keep)
        self.kept[self.n_kept : end] = unit[to_keep]
        self.place[rows[to_keep]] = np.arange(self.n_kept, end)
        self.n_kept = end
        return unit
