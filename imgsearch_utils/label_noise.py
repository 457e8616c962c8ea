"""Grades that the other grades contradict: a list for a second look, not a verdict."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold

from imgsearch_utils.calibration import Calibration
from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.siamese import pair_cosines, train_head
from imgsearch_utils.study import HeadSettings


def suspected_errors(
    embeddings: Embeddings,
    pairs: pd.DataFrame,
    settings: HeadSettings,
    seeds: Iterable[int] = (0, 1, 2),
    folds: int = 5,
    classes: pd.Series | None = None,
) -> pd.DataFrame:
    """Rank graded pairs by how unlikely their grade is to heads that did not see it.

    For each seed the pairs are cut anew into `folds`; each fold is scored by a head trained on the others, and the
    cosines of all folds are calibrated together (out-of-sample loss as in Northcutt et al. 2021, several seeds so
    that one unlucky training does not accuse).

    Parameters
    ----------
    pairs : image1, image2, similarity; pairs without a grade are left out
    classes : as for ``train_head``

    Returns
    -------
    the pairs with expected_grade, p_grade (probability of the given grade) and loss (mean over the seeds of
    -log p_grade), highest loss first

    Raises
    ------
    ValueError
        where there are fewer graded pairs than folds.
    """
    pairs = pairs[pairs.similarity.notna()].reset_index(drop=True)
    if len(pairs) < folds:
        raise ValueError(f"expected at least {folds} graded pairs, got {len(pairs)}; grade more pairs first")
    grades, predictions = pairs.similarity.to_numpy(int), []
    i, j = embeddings.rows(pairs.image1), embeddings.rows(pairs.image2)
    for seed in seeds:
        cosine = np.empty(len(pairs))
        for learn, hold in KFold(folds, shuffle=True, random_state=seed).split(pairs):
            head, _ = train_head(embeddings, pairs.iloc[learn], pairs[:0], settings, seed, classes=classes)
            images, rows = np.unique(np.concatenate([i[hold], j[hold]]), return_inverse=True)
            cosine[hold] = pair_cosines(head.embed(embeddings.vectors[images]), *rows.reshape(2, -1))
        predictions.append(Calibration.fit(cosine, grades).predict(cosine))
    given = np.stack(predictions)[:, np.arange(len(pairs)), grades]
    table = pairs.assign(expected_grade=np.mean(predictions, axis=0) @ np.arange(4), p_grade=given.mean(0),
                         loss=-np.log(np.maximum(given, 1e-12)).mean(0))
    return table.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)
