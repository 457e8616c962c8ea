"""Scores of pairs by heads that saw neither of their images: what decides between heads, and what
calibrates them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

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

FOLDS = 5


@dataclass(frozen=True)
class Fit:
    """What a head is trained on, and what it is judged on: `held` pairs, none of whose images are
    among `images`.
    """

    images: Images
    pairs: pd.DataFrame
    held_out: pd.DataFrame


def cross_fits(images: Images, pairs: pd.DataFrame, seed: int, folds: int = FOLDS) -> list[Fit]:
    """Fits that together judge every pair once, by a head that saw neither of its images (nor
    near-duplicates of them).

    The image groups are dealt out to `folds` folds; for each two of them, a head learns from the
    images of the others and judges the pairs between the two. Pairs within a fold are judged by one
    of the heads that left it out. Where no graded pair is left to learn from, which happens with a
    few dozen grades, nothing is judged. (Cross-fitting: Chernozhukov et al., Econometrics Journal
    21, 2018; for pairs, two folds have to be left out: Chiang, Kato, Ma & Sasaki, Journal of
    Business & Economic Statistics 40, 2022.)

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
    low, high = np.minimum(first, second), np.maximum(first, second)
    high = np.where(low == high, (low + 1) % folds, high)  # of one fold: left out with the next one
    low, high = np.minimum(low, high), np.maximum(low, high)
    fits = []
    for a, b in combinations(range(folds), 2):
        teaching = (
            ~np.isin(first, (a, b)) & ~np.isin(second, (a, b)) & pairs.similarity.notna().to_numpy()
        )
        held_out = pairs[(low == a) & (high == b)]
        if teaching.any() and len(held_out):
            names = [name for name, number in fold.items() if number not in (a, b)]
            fits.append(Fit(images.among(names), pairs[teaching], held_out))
    if not any(fit.held_out.similarity.notna().any() for fit in fits):
        raise ValueError(
            f"{int(pairs.similarity.notna().sum())} graded train pairs are too few to hold any "
            "out; "
            "grade more"
        )
    return fits


@dataclass(frozen=True)
class Judged:
    """What one candidate's heads say of the held-out pairs.

    score : their cosines, by the pairs' index
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
    """Train a head of each recipe on each of the fits, in as many threads as torch may use, and let
    it judge.

    votes, comparisons : as of ``train_head``; they teach, and judge nothing
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, one_thread(), threadpool_limits(1):
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
                pd.Series(np.concatenate([one.result()[0] for one in judged]), index),
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
