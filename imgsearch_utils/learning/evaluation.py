"""What a round's head is worth, on pairs that it did not learn from, beside the encoder: promoted or not."""

import math
from typing import Any

import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupShuffleSplit

from imgsearch_utils.learning.heads import Head
from imgsearch_utils.learning.model import Model
from imgsearch_utils.learning.training import train_head
from imgsearch_utils.metrics import bootstrap_gain, pair_metrics, trivial_baselines
from imgsearch_utils.vectors.images import Images
from imgsearch_utils.workspace import Round


def cross_fitted(of: Round, images: Images, graded: pd.DataFrame) -> pd.Series | None:
    """What heads that saw neither image say of the train pairs, for a study without a dev side.

    ``study.cross_fits`` times a third of the train images, whole groups, is held out, a head learns from the pairs
    among the others, and scores the pairs among the held out (repeated cross-fitting: Chernozhukov et al. 2018).

    Returns
    -------
    the mean score by the index of `graded`, without the pairs that were never held out; None where there is a dev side
    """
    study, train = of.run.study, images.train
    if not study.cross_fits:
        return None
    pairs, scores = graded[graded.side == "train"], []
    for learn, _ in GroupShuffleSplit(study.cross_fits, test_size=1 / 3, random_state=study.seed).split(
            train.table, groups=train.table.group):
        seen = train.among(train.table.image.iloc[learn])
        teaching, held_out = seen.both_of(pairs), train.without(seen.names).both_of(pairs)
        if len(teaching) and len(held_out):
            head, _ = train_head(seen, teaching, study.head, study.seed + of.number)
            scores.append(pd.Series(Model.with_head(head).cosines(images, held_out), held_out.index))
    if not scores:
        raise ValueError(f"{len(pairs)} graded train pairs are too few to hold any out; grade more")
    return pd.concat(scores).groupby(level=0).mean()


def score_sides(images: Images, head: Head, graded: pd.DataFrame,
                crossed: pd.Series | None = None) -> tuple[pd.DataFrame, dict[str, Model]]:
    """Score the dev and test pairs by the encoder and by the head, each calibrated on the dev pairs.

    crossed : of ``cross_fitted``; where it is not None, its pairs with its scores are the dev pairs

    Returns
    -------
    the pairs with the head's scored columns, `cosine` and `encoder_p_similar`; the calibrated models by name
    """
    if crossed is not None:
        graded = graded.assign(side=graded.side.mask(graded.index.isin(crossed.index), "dev"))
    pairs = graded[graded.side != "train"]
    cosine, score = (pd.Series(model.cosines(images, pairs), pairs.index) for model in (Model(), Model.with_head(head)))
    if crossed is not None:
        score = crossed.reindex(pairs.index).fillna(score)
    dev, grades = pairs.side == "dev", pairs.similarity
    encoder = Model().calibrated(cosine[dev], grades[dev])
    learnt = Model.with_head(head).calibrated(score[dev], grades[dev])
    scored = pairs.assign(score=score, **learnt.calibration.columns(score), cosine=cosine,
                          encoder_p_similar=encoder.p_similar(cosine))
    return scored.reset_index(drop=True), {"encoder": encoder, "head": learnt}


def evaluate(scored: pd.DataFrame, models: dict[str, Model], seed: int) -> dict[str, Any]:
    """Measure encoder and head on dev and test, with the paired gain in AP and the trivial baselines.

    The intervals are 95 % bootstrap over image groups. The head is promoted when on dev its AP beats the
    encoder's and that of "same class", both intervals above 0; test decides nothing.
    """
    measured: dict[str, Any] = {}
    columns = {"encoder": ("cosine", "encoder_p_similar"), "head": ("score", "p_similar")}
    for side, part in scored.groupby("side"):
        quality = {name: pair_metrics(part.similarity, part[score], part[p], models[name].threshold, part.same_class)
                   for name, (score, p) in columns.items()}
        rivals = {"encoder": part.cosine, "same-class": part.same_class.astype(float)}
        gains = {name: bootstrap_gain(average_precision_score, part, part.score, rival, seed=seed)
                 for name, rival in rivals.items()}
        measured[side] = {**quality, "trivial": trivial_baselines(part.similarity, part.same_class).T.to_dict(),
                          "ap_gain_over": gains}
    measured["promoted"] = all(gain["low"] > 0 for gain in measured["dev"]["ap_gain_over"].values())
    return _without_nan(measured)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
