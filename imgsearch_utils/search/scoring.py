"""Scoring any file of pairs by what a run has learnt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from imgsearch_utils.labels.pairs import pair_parts
from imgsearch_utils.learning.model import load_models
from imgsearch_utils.tables import write_own
from imgsearch_utils.vectors.embedding import load_embeddings
from imgsearch_utils.vectors.images import Images
from imgsearch_utils.workspace import Run

PAIR = ["image1", "image2"]


def score_file(run: Run, file: Path, out: TextIO, watch: Callable[[int, int], None] = lambda *_: None
               ) -> dict[str, Any]:
    """Score any CSV of pairs by the run's latest head, part by part: memory does not grow with the file.

    Parameters
    ----------
    out : is written the file's columns, then the scores (see ``Model.score``), empty cells where an image is unknown
    watch : is told how many bytes of how many are read

    Returns
    -------
    pairs (how many); `round`, `promoted`, `threshold` of the head; `unknown` images; and `anew`: the file's columns
    that bore a score's name and gave way to the new ones
    """
    last, pairs, unknown, anew = run.last_round, 0, set(), []
    images, head = Images.of(load_embeddings(run)), load_models(last)["head"]
    for part in pair_parts(file, watch):
        scores = head.score(images, images.both_of(part[PAIR])).drop(columns=PAIR).round(6)
        anew = [name for name in part if name in scores]
        write_own(part.drop(columns=anew).join(scores), out, header=not pairs)
        known = images.embeddings.have(part[PAIR].to_numpy().ravel())
        unknown |= {*part[PAIR].to_numpy().ravel()[~known]}
        pairs += len(part)
    return {"pairs": pairs, "round": last.number, "promoted": last.metrics["promoted"], "threshold": head.threshold,
            "unknown": sorted(unknown), "anew": anew}
