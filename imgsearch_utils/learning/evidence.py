"""How what was learnt compares with what search uses, on pairs that are fair to both.

Pairs that one score put first are no fair judge between it and another. Two kinds of pairs are:
lists that both drafted in turns, graded before anything learnt from them; and pairs that no model
chose, each judged by heads that did not see its query.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm, somersd

from imgsearch_utils.learning.model import Model
from imgsearch_utils.learning.promotion import ENCODER, ORDER, PRECISION, RIGHT_ORDER, Evidence
from imgsearch_utils.metrics import ap_gain, mean_gain, query_gain
from imgsearch_utils.study import UNCHOSEN

# of the unlabelled pairs' scores
STRATA = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)
FEWEST = 4  # compared lists from which a decision is made
LISTS = pd.DataFrame(columns=["round", "query", "similarity", "place_before", "place_learnt"])


@dataclass(frozen=True)
class Rival:
    """What search used before the grades, and what is known of the lists that it drafted in turns
    with what was learnt.

    model : the encoder, or the head that the classes taught
    name : of the model, in words
    lists : graded results, one a row: round, query, similarity, place_before, place_learnt
    look : how many times a decision has been made, with this one
    in_search : whether search uses a head that grades taught
    steady : whether people's grades stay the same when they are asked again
    """

    model: Model = field(default_factory=Model)
    name: str = ENCODER
    lists: pd.DataFrame = field(default_factory=LISTS.copy)
    look: int = 1
    in_search: bool = False
    steady: bool = True


def compare_lists(results: pd.DataFrame) -> pd.DataFrame:
    """How well each list stands in the order of its grades, by both orders of it: of all two
    results with different grades, the share of which the better one stands first (Somers' D,
    American Sociological Review 27, 1962, moved to 0 to 1).

    All four grades count, so fewer lists tell more than the average precision of grade 3 does.
    Both orders are of what was known before the list was graded (test, then train). A list of one
    grade says nothing and is left out; results that nobody graded are not there (condensed lists:
    Sakai, SIGIR 2007).

    Parameters
    ----------
    results : as of ``Rival.lists``

    Returns
    -------
    round, query, results (how many), before, learnt
    """
    rows = []
    for (number, query), part in results.groupby(["round", "query"], sort=False):
        if part.similarity.nunique() > 1:
            before, learnt = (
                (1 + somersd(part.similarity, -part[place]).statistic) / 2
                for place in ("place_before", "place_learnt")
            )
            rows.append((number, query, len(part), before, learnt))
    return pd.DataFrame(rows, columns=["round", "query", "results", "before", "learnt"])


def fair_weights(known: pd.DataFrame, unknown: pd.DataFrame) -> pd.Series:
    """How much each graded pair (n,) says of which model is better: nothing where a model chose it;
    less where its stratum was drawn more often.

    known : graded pairs: strategy, drawn, same_class, cosine (the encoder's)
    unknown : random pairs of the collection: same_class, cosine
    """
    weight = known.strategy.isin(UNCHOSEN).astype(float)
    if (known.strategy == "stratified").any():
        by_design = design_weights(known, unknown)
        weight[by_design.index] = by_design / (by_design.mean() or 1.0)
    return weight


def design_weights(known: pd.DataFrame, unknown: pd.DataFrame) -> pd.Series:
    """How many pairs of the collection, relative to one another, each graded pair that chance drew
    stands for, (n_drawn,), by index.

    It is the collection's share of the pair's stratum of the encoder's cosine, over the pairs drawn
    of it (post-stratification: Holt & Smith, Journal of the Royal Statistical Society A 142, 1979).
    """
    drawn = known[known.drawn]
    of_drawn, of_unlabelled = strata_of(
        drawn.cosine, unknown.cosine, drawn.same_class, unknown.same_class
    )
    share, n = (np.bincount(of, minlength=2 * len(STRATA) + 2) for of in (of_unlabelled, of_drawn))
    return pd.Series((share / np.maximum(n, 1))[of_drawn], drawn.index)


def strata_of(of, unlabelled, kind_of=0, kind_unlabelled=0):
    """Number of the stratum of each score, and of each unlabelled pair's; each kind has
    strata of its own.
    """
    edges = np.quantile(unlabelled, STRATA) if len(unlabelled) else np.zeros(0)
    return (
        np.digitize(scores, edges) + (len(STRATA) + 1) * np.asarray(kind, int)
        for scores, kind in ((of, kind_of), (unlabelled, kind_unlabelled))
    )


def evidence_of(scored: pd.DataFrame, rival: Rival) -> Evidence:
    """What decides: the compared lists, from ``FEWEST`` of them on; else the pairs that no model
    chose, in average precision over all of them or in the order within a query's.

    scored : the graded pairs that decide, with `score` by heads that did not learn from them,
        `before` (the rival's) and `weight`, 0 for pairs that a model chose
    """
    compared = compare_lists(rival.lists)
    if len(compared) >= FEWEST:
        gain = mean_gain(compared.learnt - compared.before)
        means = compared[["before", "learnt"]].mean()
        ends = gain["low"], gain["high"], gain["chance"]
        return Evidence("lists", len(compared), RIGHT_ORDER, rival.name, *means, *ends, rival.look)
    fair = scored[scored.weight > 0]
    found = [_by_pairs(ap_gain(fair, fair.score, fair.before, fair.weight), fair, PRECISION, rival)]
    if fair.weight.nunique() == 1:  # else queries have no weights
        order = query_gain(fair, fair.score, fair.before).set_index("measure").loc["nDCG@10"]
        found.append(_by_pairs(order, fair, ORDER, rival))
    told = max(found, key=lambda one: np.nan_to_num(abs(one.chance - 0.5), nan=-1.0))
    if np.isnan([one.chance for one in found]).any():
        return told
    # two tries: the chance of either is up to twice that of one (Bonferroni)
    chance = told.chance
    twice = min(0.5, 2 * chance) if chance < 0.5 else max(0.5, 1 - 2 * (1 - chance))
    return told._replace(chance=twice if len(found) > 1 else chance)


def _by_pairs(gain, fair, measure, rival):
    """Evidence by a gain with an interval of -+ 1.96 standard errors."""
    error = (gain["high"] - gain["low"]) / (2 * norm.ppf(0.975))
    chance = float(norm.sf(gain["difference"] / error)) if error > 0 else np.nan
    before = gain["score"] - gain["difference"]
    ends = gain["low"], gain["high"], chance
    return Evidence(
        "pairs", len(fair), measure, rival.name, before, gain["score"], *ends, rival.look
    )
