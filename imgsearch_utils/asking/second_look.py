"""Grades that the other grades contradict: a list for a second look, not a verdict."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold

from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.head_training import train_head
from imgsearch_utils.learning.model import Model
from imgsearch_utils.study import HeadSettings


def suspected_errors(
    images: Images,
    pairs: pd.DataFrame,
    settings: HeadSettings,
    seeds: Iterable[int] = (0, 1, 2),
    folds: int = 5,
) -> pd.DataFrame:
    """Rank graded pairs by how unlikely their grade is to heads that did not see it.

    For each seed the pairs are cut anew into `folds`; each fold is scored by a head trained on the
    others, and the cosines of all folds are calibrated together (out-of-sample loss as in Northcutt
    et al. 2021, several seeds so that one unlucky training does not accuse).

    Parameters
    ----------
    images : those that may teach, as for ``train_head``
    pairs : image1, image2, similarity; pairs without a grade are left out

    Returns
    -------
    the pairs with expected_grade, p_grade (probability of the given grade) and loss (mean over the
    seeds of -log p_grade), highest loss first

    Raises
    ------
    ValueError
        where there are fewer graded pairs than folds.
    """
    pairs = pairs[pairs.similarity.notna()].reset_index(drop=True)
    if len(pairs) < folds:
        raise ValueError(
            f"expected at least {folds} graded pairs, got {len(pairs)}; grade more pairs first"
        )
    grades, predictions = pairs.similarity.to_numpy(int), []
    for seed in seeds:
        cosine = np.empty(len(pairs), np.float32)
        for learn, hold in KFold(folds, shuffle=True, random_state=seed).split(pairs):
            head, _ = train_head(images, pairs.iloc[learn], settings, seed)
            cosine[hold] = Model.with_head(head).cosines(images, pairs.iloc[hold])
        predictions.append(Calibration.fit(cosine, grades).predict(cosine))
    p_of_grade = np.stack(predictions)[:, np.arange(len(pairs)), grades]
    table = pairs.assign(
        expected_grade=np.mean(predictions, axis=0) @ np.arange(4),
        p_grade=p_of_grade.mean(0),
        loss=-np.log(np.maximum(p_of_grade, 1e-12)).mean(0),
    )
    return table.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)
