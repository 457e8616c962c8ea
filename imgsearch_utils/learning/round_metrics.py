"""What a round's head is worth, on pairs that it did not learn from, beside the encoder."""

import math
from typing import Any

import pandas as pd

from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.learner import LearningResult
from imgsearch_utils.learning.model import Model
from imgsearch_utils.metrics import ap_gain, pair_metrics, query_gain, trivial_baselines


def score_pairs(images: Images, graded: pd.DataFrame, result: LearningResult) -> pd.DataFrame:
    """The pairs that decided (their `side` is dev) and the test pairs, scored by the encoder and by
    what was learnt.

    Returns
    -------
    the pairs with the head's scored columns, `cosine` (the encoder's) and `encoder_p_similar`
    """
    test = graded[graded.side == "test"]
    test = test.assign(
        score=result.models["head"].cosines(images, test), cosine=Model().cosines(images, test)
    )
    pairs = pd.concat([result.scored.assign(side="dev"), test], ignore_index=True)[
        [*graded, "score", "cosine"]
    ]
    encoder_p = result.models["encoder"].p_similar(pairs.cosine)
    return pairs.assign(
        **result.models["head"].calibration.columns(pairs.score), encoder_p_similar=encoder_p
    )


def evaluate(scored: pd.DataFrame, models: dict[str, Model]) -> dict[str, Any]:
    """Measure encoder and head on dev and test, with the paired gains and the trivial baselines.

    Intervals are 95 %, over image groups. `ap_gain_over` compares all pairs; `within_queries` the
    order within each image's judged results."""
    measured: dict[str, Any] = {}
    columns = {"encoder": ("cosine", "encoder_p_similar"), "head": ("score", "p_similar")}
    for split, part in scored.groupby("side"):
        quality = {
            name: pair_metrics(
                part.similarity, part[score], part[p], models[name].threshold, part.same_class
            )
            for name, (score, p) in columns.items()
        }
        rivals = {"encoder": part.cosine, "same-class": part.same_class.astype(float)}
        within = query_gain(part, part.score, part.cosine).set_index("measure")
        measured[split] = {
            **quality,
            "trivial": trivial_baselines(part.similarity, part.same_class).T.to_dict(),
            "ap_gain_over": {
                name: ap_gain(part, part.score, rival) for name, rival in rivals.items()
            },
            "within_queries": within.rename(
                columns={"score": "head", "rival": "encoder"}
            ).T.to_dict(),
        }
    return _without_nan(measured)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
