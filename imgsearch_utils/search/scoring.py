"""Scoring any file of pairs by what a run has learnt."""

from pathlib import Path
from typing import Any

import pandas as pd

from imgsearch_utils.labels.pairs import read_pairs
from imgsearch_utils.learning.model import load_models
from imgsearch_utils.vectors.embedding import load_embeddings
from imgsearch_utils.vectors.images import Images
from imgsearch_utils.workspace import Run

PAIR = ["image1", "image2"]


def score_file(run: Run, file: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """Score any CSV of pairs by the run's latest head.

    Returns
    -------
    the file's columns, then the scores (see ``Model.score``), empty cells where an image is unknown; the unknown
    images; and `round`, `promoted`, `threshold` of the head, and `anew`: the file's columns that bore a score's name
    and gave way to the new ones
    """
    last = run.last_round
    images, head = Images.of(load_embeddings(run)), load_models(last)["head"]
    pairs = read_pairs(file, need_grades=False)
    scores = head.score(images, images.both_of(pairs[PAIR])).drop(columns=PAIR).round(6)
    anew = [name for name in pairs if name in scores]
    scored = pairs.drop(columns=anew).join(scores)
    unknown = sorted({*pairs.image1, *pairs.image2} - set(images.names))
    about = {"round": last.number, "promoted": last.metrics["promoted"], "threshold": head.threshold, "anew": anew}
    return scored, unknown, about
