"""From grades to the model that search uses: candidates, the choice between them, its
calibration.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.cross_fitting import Fit, cross_fits, judge
from imgsearch_utils.learning.evidence import (
    Rival,
    design_weights,
    evidence_of,
    fair_weights,
    strata_of,
)
from imgsearch_utils.learning.head_training import train_head
from imgsearch_utils.learning.heads import Head, Recipe
from imgsearch_utils.learning.model import Model
from imgsearch_utils.learning.promotion import Decision, choose, chosen_row, decide, mark_use
from imgsearch_utils.metrics import ENOUGH, ap_gain, query_gains
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import HeadSettings

CANDIDATES = {
    "centred": Recipe(network=False),
    "whitened": Recipe(whiten=True, network=False),
    "head": Recipe(),
    "head, pull 0.3": Recipe(decorrelation=0.3),
    "whitened head": Recipe(whiten=True),
    "whitened head, pull 0.3": Recipe(whiten=True, decorrelation=0.3),
    "whitened head, pull 1": Recipe(whiten=True, decorrelation=1.0),
    "contrastive head": Recipe(whiten=True, decorrelation=1.0, loss="contrastive_apart"),
}
UNLABELLED = 10_000  # random pairs that say how often each score occurs
# automatic zeros that teach at most, or as many as other pairs are, where somebody waits
ZEROS = 360
BLOCK = 64  # images whose cosines with all others are held at once


def candidates_of(images: Images, fast: bool = False) -> list[str]:
    """Names of the ``CANDIDATES`` that suit a study's training images; the first is taken if no
    other has its interval above it.

    Where classes are known, most pairs are graded 0 without asking, and these hold the space
    together. Where they are not, whitening and the pull on unlabelled pairs do.

    fast : one network only, where somebody waits (and ``ZEROS`` in ``learn``)
    """
    if images.has_classes:
        more = [] if fast else ["head, pull 0.3", "contrastive head"]
        return ["head", *more, "whitened", "centred"]
    return [
        "whitened head, pull 0.3",
        *([] if fast else ["whitened head, pull 1", "whitened head"]),
        "whitened",
        "centred",
    ]


@dataclass(frozen=True)
class LearningResult:
    """What the grades taught.

    models : "encoder" and "head", both with their calibrations; the head is trained on all train
        pairs
    candidates : one row each, the encoder first: candidate, ap and ndcg (the mean nDCG@10 within a
        query's judged results); ap_gain and ndcg_gain, over the encoder, with _low and _high; `use`
        as of ``promotion.mark_use``
    scored : the graded pairs that judged, with `score` by heads that did not see one of the two
        images, `cosine`, the encoder's, `before`, the rival's, and `weight`, how many pairs each
        stands for; a finished round adds the test pairs (``score_pairs``)
    decision : whether search uses the head, and why; None of a round of an older version
    history : of the chosen candidate's training: epoch, train_loss, dev_loss, dev_ap
    """

    models: dict[str, Model]
    candidates: pd.DataFrame
    scored: pd.DataFrame
    history: pd.DataFrame
    decision: Decision | None

    @property
    def chosen(self) -> str:
        """The chosen one of ``CANDIDATES``."""
        return chosen_row(self.candidates).candidate

    @property
    def promoted(self) -> bool:
        """Whether search uses the head; if not, it keeps what it used before the grades."""
        return chosen_row(self.candidates).use == "search"


@threadpool_limits.wrap(limits=1)  # so that sums are made in one order, on any number of cores
def learn(
    images: Images,
    graded: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    fast: bool = False,
    votes: pd.DataFrame | None = None,
    rival: Rival | None = None,
    comparisons: pd.DataFrame | None = None,
) -> LearningResult:
    """Train the candidates, let the pairs that judge choose between them, and calibrate what they
    chose.

    What judges are the graded dev pairs where there are dev images; else the train pairs
    themselves, by heads that did not see one of their images (``cross_fits``). Whether search uses
    what was learnt stands in ``evidence`` and ``promotion``.

    Parameters
    ----------
    images : with group and side
    graded : as of ``grades.graded_pairs``; others than train and dev pairs take no part
    seed : of the folds and of the first weights
    fast : as of ``candidates_of``
    votes, comparisons : as of ``train_head``; they teach, and judge nothing
    rival : what search used before the grades; the encoder where it is not given

    Raises
    ------
    ValueError
        for too few graded pairs, and as ``train_head`` does.
    """
    rival = rival or Rival()
    train, dev = (graded[graded.side == split] for split in ("train", "dev"))
    if len(dev):
        fits = [Fit(images.train, train, with_unlabelled(images.split("dev"), dev, seed))]
    else:
        fits = cross_fits(images.train, with_unlabelled(images.train, train, seed), seed)
    names = candidates_of(images.train, fast)
    if fast:
        fits = [replace(fit, pairs=_thinned(fit.pairs, seed)) for fit in fits]
        train = _thinned(train, seed)
    recipes = {name: CANDIDATES[name] for name in names}
    judged = judge(fits, recipes, settings, seed, votes, comparisons)
    # digits beyond depend on the machine
    scores = {name: one.score.round(4) for name, one in judged.items()}
    held_out = pd.concat([fit.held_out for fit in fits])
    held_out = held_out[~held_out.index.duplicated()].sort_index()
    held_out = held_out.assign(
        cosine=Model().cosines(images, held_out), before=rival.model.cosines(images, held_out)
    )
    unknown = held_out[held_out.similarity.isna()]
    graded_pairs = held_out.drop(unknown.index).astype(graded.dtypes.to_dict())
    candidates = _compare(graded_pairs, {"encoder": held_out.cosine, **scores})
    name = choose(_gains_over_first(graded_pairs, scores, names[0]), names[0])
    scored = graded_pairs.assign(
        score=scores[name][graded_pairs.index], weight=fair_weights(graded_pairs, unknown)
    )
    decision = decide(evidence_of(scored, rival), rival.in_search, rival.steady)
    candidates = mark_use(candidates, name, decision.used)
    head = train_candidate(images, train, settings, seed, name, votes, comparisons)
    curves = [_calibrate(graded_pairs, unknown, score) for score in (held_out.cosine, scores[name])]
    typical = nearest_neighbour_cosine(images.train)
    models = (
        Model(calibration=curves[0], out_of_collection_cosine=typical),
        Model.with_head(head, curves[1], typical),
    )
    by_name = {model.name: model for model in models}
    return LearningResult(by_name, candidates, scored, judged[name].history, decision)


@threadpool_limits.wrap(limits=1)
def train_candidate(
    images: Images,
    graded: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    name: str,
    votes: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
) -> Head:
    """The head of one of the ``CANDIDATES``, trained on all graded train pairs."""
    train = graded[graded.side == "train"]
    evidence = {"votes": votes, "comparisons": comparisons}
    return train_head(images.train, train, settings, seed, CANDIDATES[name], **evidence)[0]


def _thinned(pairs, seed):
    """The pairs without some of their automatic zeros, which take as long to learn from as the
    others.
    """
    if "automatic" not in pairs:
        return pairs
    zeros = pairs.index[pairs.automatic.fillna(False).astype(bool)]
    most = max(ZEROS, len(pairs) - len(zeros))
    if len(zeros) <= most:
        return pairs
    return pairs.drop(np.random.default_rng(seed).choice(zeros, len(zeros) - most, replace=False))


def with_unlabelled(images: Images, pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The pairs, and ``UNLABELLED`` random ones of the images that are not among them, with
    similarity NaN.

    The index counts the rows; a pair's images are of two groups.
    """
    rng, names = np.random.default_rng(seed), images.table.image.to_numpy(object)
    i, j = rng.integers(len(names), size=(2, UNLABELLED))
    group = images.table.group.to_numpy()
    drawn = pd.DataFrame(
        {
            "image1": names[np.minimum(i, j)],
            "image2": names[np.maximum(i, j)],
            "group1": group[np.minimum(i, j)],
            "group2": group[np.maximum(i, j)],
        }
    )
    drawn = drawn[drawn.group1 != drawn.group2].drop_duplicates(["image1", "image2"])
    drawn = drawn.assign(same_class=images.same_class(drawn), drawn=True)
    both = {frozenset(pair) for pair in zip(pairs.image1, pairs.image2)}
    new = np.array([frozenset(pair) not in both for pair in zip(drawn.image1, drawn.image2)], bool)
    return pd.concat([pairs, drawn[new].assign(similarity=np.nan)], ignore_index=True)


def _compare(known, scores):
    """The table of candidates; `scores` by name, the encoder's cosine being one of them."""
    rows, scores = [], {name: score[known.index].to_numpy() for name, score in scores.items()}
    queries = query_gains(known, scores, "encoder").set_index(["measure", "of"]).loc["nDCG@10"]
    for name, score in scores.items():
        pair, query = ap_gain(known, score, known.cosine), queries.loc[name]
        rows.append(
            {
                "candidate": name,
                "ap": pair["score"],
                "ndcg": query.score,
                "ap_gain": pair["difference"],
                "ap_gain_low": pair["low"],
                "ap_gain_high": pair["high"],
                "ndcg_gain": query.difference,
                "ndcg_gain_low": query.low,
                "ndcg_gain_high": query.high,
            }
        )
    return pd.DataFrame(rows)


def _gains_over_first(known, scores, first):
    """Gains in average precision over the first candidate, of those whose interval lies above 0."""
    gains = {
        name: ap_gain(known, score[known.index].to_numpy(), scores[first][known.index].to_numpy())
        for name, score in scores.items()
    }
    return {name: gain["difference"] for name, gain in gains.items() if gain["low"] > 0}


def _calibrate(known, unknown, score):
    """A calibration of `score` (by index) on the graded pairs, moved to what a pair of the
    collection is like.

    Two things make graded pairs unlike the collection's, whose unlabelled pairs show how often
    which scores occur:

    - Where a range of scores has no graded pair, its unlabelled pairs stand for grade 0, with their
      share as weight.
    - A strategy asks pairs that are similar more often than their score tells. So the curves'
      height is fitted again on the pairs that were drawn at random; these are weighted by the
      collection's share of their stratum of the encoder's cosine (``evidence.design_weights``).
    """
    of_graded, of_unlabelled = strata_of(score[known.index], score[unknown.index])
    empty = unknown[~np.isin(of_unlabelled, of_graded)]
    weight = np.concatenate(
        [np.ones(len(known)), np.full(len(empty), len(known) / max(1, len(unknown)))]
    )
    grades = np.append(known.similarity, np.zeros(len(empty)))
    fitted = Calibration.fit(score[[*known.index, *empty.index]], grades, weight)
    # automatic zeros alone say nothing
    if known.drawn.all() or known.same_class[known.drawn].sum() < ENOUGH or unknown.empty:
        return fitted
    weight = design_weights(known, unknown)
    if not weight.any():
        return fitted
    return fitted.shift_intercepts(score[weight.index], known.similarity[weight.index], weight)


def nearest_neighbour_cosine(images: Images, quantile: float = 0.01) -> float:
    """The encoder's cosine that nearly every image has to its nearest other image: the 1 % quantile
    of those cosines.

    A query whose nearest image is farther than that is of another kind than the collection.
    Near-duplicates do not count as neighbours; at most 2,000 images are looked at."""
    rows = np.random.default_rng(0).permutation(len(images))[:2_000]
    unit, group, nearest = normalised(images.vectors), images.table.group.to_numpy(), []
    for at in range(0, len(rows), BLOCK):
        block = rows[at : at + BLOCK]
        nearest.append(np.where(group[block][:, None] == group, -1, unit[block] @ unit.T).max(1))
    return float(np.quantile(np.concatenate(nearest), quantile))
