"""Scores of pairs by heads that did not see one of their images: what decides between heads, and
what calibrates them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from imgsearch_utils.encoders.encoder import one_thread
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.head_training import PairRows, train_head
from imgsearch_utils.learning.heads import Recipe
from imgsearch_utils.learning.training_statistics import TrainingStatistics
from imgsearch_utils.metrics import SIMILAR
from imgsearch_utils.metrics.geometry import pair_cosines
from imgsearch_utils.study import HeadSettings

CORES = torch.get_num_threads()  # as it is before anything is limited to one
FOLDS = 6  # five of them hold 69 % of the pairs


@dataclass(frozen=True)
class Fit:
    """What a head is trained on, and the pairs that it judges: each has an image that is not among
    `images`.
    """

    images: Images
    pairs: pd.DataFrame
    held_out: pd.DataFrame


def cross_fits(images: Images, pairs: pd.DataFrame, seed: int, folds: int = FOLDS) -> list[Fit]:
    """Fits that together judge every pair by heads that did not see one of its images (nor
    near-duplicates of it): what a query is that nobody graded.

    The image groups are dealt out to `folds` folds; for each, a head learns from the pairs without
    an image of it, and judges the pairs with one. So a pair between two folds is judged twice, and
    each judge knows about (1 - 1/folds)^2 of the pairs. (Cross-fitting: Chernozhukov et al.,
    Econometrics Journal 21, 2018. Leaving both images out, as Chiang, Kato, Ma & Sasaki, Journal of
    Business & Economic Statistics 40, 2022, leaves a judge of five folds 36 % of the pairs.) Where
    no graded pair is left to learn from, which happens with a few dozen grades, nothing is judged.

    Raises
    ------
    ValueError for fewer than three groups of images, or too few graded pairs to learn from and to
        hold out.
    """
    groups, fold = images.table.group.to_numpy(), {}
    folds = min(folds, len(np.unique(groups)))
    if folds < 3:
        raise ValueError(
            f"{len(images)} images in {folds} groups of near-duplicates are too few to hold any out"
        )
    dealt = GroupKFold(folds, shuffle=True, random_state=seed % 2**32).split(groups, groups=groups)
    for number, (_, rows) in enumerate(dealt):
        fold.update(dict.fromkeys(images.table.image.iloc[rows], number))
    first, second = (pairs[column].map(fold).to_numpy() for column in ("image1", "image2"))
    graded, fits = pairs.similarity.notna().to_numpy(), []
    for number in range(folds):
        held_out = (first == number) | (second == number)
        if (graded & ~held_out).any() and held_out.any():
            names = [name for name, of in fold.items() if of != number]
            fits.append(Fit(images.among(names), pairs[graded & ~held_out], pairs[held_out]))
    if not any(fit.held_out.similarity.notna().any() for fit in fits):
        raise ValueError(
            f"{int(graded.sum())} graded pairs are too few to learn from and to check; grade some "
            "more, or what was skipped"
        )
    return fits


@dataclass(frozen=True)
class Judged:
    """What one candidate's heads say of the held-out pairs.

    score : their cosines, by the pairs' index; of a pair that several heads judge, the mean
    by_fit : the fits, and of each head one row an epoch: epoch, train_loss, dev_loss and the
    `cosines` of graded pairs"""

    score: pd.Series
    by_fit: list[tuple[Fit, pd.DataFrame]]

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: epoch, train_loss, dev_loss, means over the fits, and dev_ap, of all
        their pairs.
        """
        held_out = [fit.held_out.similarity.dropna() for fit, _ in self.by_fit]
        taught, graded = (
            [fit.pairs.similarity.notna().sum() for fit, _ in self.by_fit],
            [len(one) for one in held_out],
        )
        grades, rows = np.concatenate(held_out), []
        for epoch in zip(*(history.itertuples() for _, history in self.by_fit)):
            # NaN where a fit holds no graded pair
            dev_loss = np.nan_to_num([one.dev_loss for one in epoch])
            rows.append(
                {
                    "epoch": epoch[0].epoch,
                    "train_loss": np.average([one.train_loss for one in epoch], weights=taught),
                    "dev_loss": np.average(dev_loss, weights=graded),
                    "dev_ap": _ap(
                        grades == SIMILAR, np.concatenate([one.cosines for one in epoch])
                    ),
                }
            )
        return pd.DataFrame(rows)


class _Held:
    """What heads of all recipes need of a fit's held-out pairs, made once."""

    def __init__(self, fit: Fit):
        self.graded = PairRows(fit.images, fit.held_out)
        self.vectors, self.i, self.j = fit.images.vectors_of_pairs(fit.held_out)


def judge(
    fits: Sequence[Fit],
    recipes: dict[str, Recipe],
    settings: HeadSettings,
    seed: int,
    votes: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
) -> dict[str, Judged]:
    """Train a head of each recipe on each of the fits, in as many threads as there are cores, and
    let it judge.

    votes, comparisons : as of ``train_head``; they teach, and judge nothing
    """
    with ThreadPoolExecutor(CORES) as pool, one_thread(), threadpool_limits(1):
        held_out = list(pool.map(_Held, fits))
        statistics_of_fits = list(
            pool.map(
                lambda fit: TrainingStatistics.of(
                    fit.images.vectors, fit.images.classes.to_numpy(str), settings
                ),
                fits,
            )
        )
        running = {
            name: [
                pool.submit(
                    _judge_fit, fit, statistics, pairs, recipe, settings, seed, votes, comparisons
                )
                for fit, statistics, pairs in zip(fits, statistics_of_fits, held_out)
            ]
            for name, recipe in recipes.items()
        }
        index = np.concatenate([fit.held_out.index for fit in fits])
        return {
            name: Judged(
                pd.Series(np.concatenate([one.result()[0] for one in judged]), index)
                .groupby(level=0)
                .mean(),
                [(fit, one.result()[1]) for fit, one in zip(fits, judged)],
            )
            for name, judged in running.items()
        }


def _judge_fit(fit, statistics, held_out, recipe, settings, seed, votes, comparisons):
    """The head's cosines of the held-out pairs (len(held),), and its history with, by epoch, those
    of graded ones.
    """
    graded, x = held_out.graded, []

    def watch(head, loss):
        with torch.inference_mode():
            x.extend(() if x else [head.centred(graded.vectors)])
            networks = head.networks_part(head.whitened(x[0]))
            pairs = (
                (networks[graded.i] * networks[graded.j]).sum(1),
                graded.i,
                graded.j,
                graded.grades,
            )
            held_loss = loss(*pairs).item() if len(graded) else np.nan
            unit = head.beside_classes(networks, x[0]).numpy()
        return {
            "dev_loss": held_loss,
            "cosines": pair_cosines(unit, graded.i.numpy(), graded.j.numpy()),
        }

    head, history = train_head(
        fit.images, fit.pairs, settings, seed, recipe, watch, statistics, votes, comparisons
    )
    return pair_cosines(head.embed(held_out.vectors), held_out.i, held_out.j), history


def _ap(similar, score):
    return average_precision_score(similar, score) if 0 < similar.sum() < len(similar) else np.nan
