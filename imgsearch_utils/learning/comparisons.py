"""Learning from comparisons alone: no grade is needed, and held-out comparisons decide."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from imgsearch_utils.encoders.encoder import one_thread
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.cross_fitting import CORES
from imgsearch_utils.learning.head_training import comparisons_among, train_head
from imgsearch_utils.learning.heads import Head, Recipe
from imgsearch_utils.learning.model import Model
from imgsearch_utils.learning.promotion import (
    AGREEMENT,
    ENCODER,
    Decision,
    Evidence,
    choose,
    chosen_row,
    decide,
    mark_use,
)
from imgsearch_utils.learning.training_statistics import TrainingStatistics
from imgsearch_utils.metrics import ENOUGH, bootstrap
from imgsearch_utils.metrics.geometry import pair_cosines
from imgsearch_utils.study import HeadSettings

CANDIDATES = {
    "head, pull 1": Recipe(decorrelation=1.0),
    "head, pull 0.3": Recipe(decorrelation=0.3),
    "centred": Recipe(network=False),
}
FOLDS = 10  # so that each judge learns from about .9^3 of the comparisons
NO_PAIRS = pd.DataFrame({"image1": [], "image2": [], "similarity": np.empty(0)})


@dataclass(frozen=True)
class ComparisonResult:
    """What comparisons taught.

    models : "encoder" and "head", which is trained on all comparisons; neither has a calibration,
        as comparisons say an order, and not how similar two images are
    candidates : one row each, the encoder first: candidate; agreement, its share of the held-out
        comparisons; gain over the encoder's, with gain_low and gain_high; `use`: "search" for what
        search may use, "chosen" for a chosen candidate that it may not
    judged : the comparisons that decided: query, closer, farther, and for each candidate whether it
        agrees, 1, 0 or .5 (equal cosines), by a head that had not seen the query
    decision : whether search may use the head, and why
    """

    models: dict[str, Model]
    candidates: pd.DataFrame
    judged: pd.DataFrame
    decision: Decision

    @property
    def chosen(self) -> str:
        """The chosen one of ``CANDIDATES``."""
        return chosen_row(self.candidates).candidate

    @property
    def promoted(self) -> bool:
        """Whether search may use the head; if not, it keeps the encoder."""
        return self.decision.used


def learn_from_comparisons(
    images: Images,
    triplets: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    in_search: bool = False,
    look: int = 1,
) -> ComparisonResult:
    """Train the candidates on comparisons, and let comparisons that they did not see choose between
    them, and between them and the encoder.

    The judges are cross-fitted. The groups of near-duplicates are dealt out to ``FOLDS`` folds; of
    each fold a head is made without its images, and so without any comparison in which one of them
    takes part; it judges the comparisons whose query is in the fold. So it has seen neither the
    query nor a near-duplicate of it. It may have seen the two candidates beside other queries, as
    in search, where the question is new and the collection is not: to leave out the groups of all
    three would leave it half of the comparisons with ten folds, and a fifteenth with five.

    Parameters
    ----------
    images : those that may teach, with group; two or more classes add the class part of the head
    triplets : query, closer, farther; left out are those of other images, and those of which two
        images are of one group
    seed : of the folds and of the first weights
    in_search : whether search uses a head already
    look : how many times a decision has been made, with this one

    Raises
    ------
    ValueError
        for fewer than ``ENOUGH`` groups that are asked for, or an answer "neither" among the
        triplets.
    """
    if "neither" in triplets and triplets.neither.any():
        raise ValueError("expected comparisons that say an order, got an answer neither; drop them")
    group = dict(zip(images.table.image, images.table.group))
    triplets = comparisons_among(triplets, images)
    groups = triplets.map(group.get)
    apart = groups.nunique(axis=1) == 3
    triplets, groups = triplets[apart].reset_index(drop=True), groups["query"][apart].to_numpy()
    if len(np.unique(groups)) < ENOUGH:
        raise ValueError(
            f"expected comparisons for {ENOUGH} different pictures or more, got "
            f"{len(np.unique(groups))}; compare more"
        )
    with threadpool_limits(1):  # so that sums are made in one order, on any number of cores
        judged = _judge(images, triplets, settings, seed)
        margins = {"encoder": _margin(Model(), images, triplets), **judged}
        agrees = {name: _agrees(margin) for name, margin in margins.items()}
        candidates, chosen = _compare(agrees, groups)
        head = train_on_comparisons(images, triplets, settings, seed, CANDIDATES[chosen])
    row = candidates.set_index("candidate").loc[chosen]
    error = (row.gain_high - row.gain_low) / (2 * norm.ppf(0.975))
    chance = float(norm.sf(row.gain / error)) if error > 0 else np.nan
    shares = agrees["encoder"].mean(), row.agreement
    ends = row.gain_low, row.gain_high, chance
    evidence = Evidence("comparisons", len(triplets), AGREEMENT, ENCODER, *shares, *ends, look)
    decision = decide(evidence, in_search)
    models = {"encoder": Model(), "head": Model.with_head(head)}
    candidates = mark_use(candidates, chosen, decision.used)
    return ComparisonResult(models, candidates, triplets.assign(**agrees), decision)


def train_on_comparisons(
    images: Images,
    triplets: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    recipe: Recipe,
    statistics: TrainingStatistics | None = None,
) -> Head:
    """A head that learns from comparisons and from no grade; as ``train_head``."""
    return train_head(
        images, NO_PAIRS, settings, seed, recipe, statistics=statistics, comparisons=triplets
    )[0]


def agreement_gain(
    agrees: np.ndarray, rival: np.ndarray, groups: np.ndarray
) -> tuple[float, float, float]:
    """How much more often one agrees with comparisons than its rival, with a 95 % interval.

    The interval is a bootstrap over the groups of the queries: the comparisons of one query, and of
    its near-duplicates, are drawn together. It is NaN where the two differ in fewer than ``ENOUGH``
    comparisons.

    agrees, rival : (n,) 1, 0 or .5
    groups : (n,) of the queries
    """
    gain = np.asarray(agrees, float) - np.asarray(rival, float)
    mean, low, high = bootstrap(gain, groups)
    return (mean, low, high) if np.count_nonzero(gain) >= ENOUGH else (mean, np.nan, np.nan)


def _judge(images, triplets, settings, seed) -> dict[str, np.ndarray]:
    """By candidate, the margins (n,) of the triplets by heads that had not seen the query."""
    margins = {name: np.full(len(triplets), np.nan) for name in CANDIDATES}
    with ThreadPoolExecutor(CORES) as pool, one_thread():
        running = [
            (rows, pool.submit(_judge_fold, without, triplets, rows, images, settings, seed))
            for without, rows in _folds(images, triplets, seed)
        ]
        for rows, judged in running:
            for name, margin in judged.result().items():
                margins[name][rows] = margin
    return margins


def _folds(images, triplets, seed) -> Iterator[tuple[Images, np.ndarray]]:
    """Images without those of a fold, and the rows of the triplets whose query is in it."""
    groups = images.table.group.to_numpy()
    dealt = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed % 2**32)
    for kept, held_out in dealt.split(groups, groups=groups):
        rows = np.flatnonzero(triplets["query"].isin(set(images.table.image.iloc[held_out])))
        if len(rows):
            yield images.among(images.table.image.iloc[kept]), rows


def _judge_fold(without, triplets, rows, images, settings, seed):
    vectors, classes = without.vectors, without.classes.to_numpy(str)
    statistics = TrainingStatistics.of(vectors, classes, settings)
    margins = {}
    for name, recipe in CANDIDATES.items():
        if recipe.network and comparisons_among(triplets, without).empty:
            margins[name] = np.full(len(rows), np.nan)
            continue
        head = train_on_comparisons(without, triplets, settings, seed, recipe, statistics)
        margins[name] = _margin(Model.with_head(head), images, triplets.iloc[rows])
    return margins


def _margin(model: Model, images: Images, triplets: pd.DataFrame) -> np.ndarray:
    """By how much the query's cosine with the closer image exceeds that with the farther, (n,)."""
    names = pd.unique(triplets.to_numpy(object).ravel())
    unit = model.vectors(images.vectors_of(names))
    query, closer, farther = (
        pd.Index(names).get_indexer(triplets[name]) for name in ("query", "closer", "farther")
    )
    return pair_cosines(unit, query, closer) - pair_cosines(unit, query, farther)


def _agrees(margin: np.ndarray) -> np.ndarray:
    """1, 0 or .5; .5 where nothing was left to learn from."""
    # digits beyond depend on the machine
    return (np.sign(np.nan_to_num(margin).round(6)) + 1) / 2


def _compare(agrees: dict[str, np.ndarray], groups: np.ndarray) -> tuple[pd.DataFrame, str]:
    """The table of candidates, and the chosen one."""
    first, rows = next(iter(CANDIDATES)), []
    for name, values in agrees.items():
        gain = agreement_gain(values, agrees["encoder"], groups)
        rows.append((name, values.mean(), *gain))
    columns = ["candidate", "agreement", "gain", "gain_low", "gain_high"]
    over_first = {name: agreement_gain(agrees[name], agrees[first], groups) for name in CANDIDATES}
    chosen = choose({name: gain for name, (gain, low, _) in over_first.items() if low > 0}, first)
    return pd.DataFrame(rows, columns=columns), chosen
