"""Which pairs to ask people next, by a strategy; and which need no asking."""

from collections import Counter

import numpy as np
import pandas as pd

from imgsearch_utils.asking.pool import NO_PAIRS, Pool, random_pairs
from imgsearch_utils.asking.strategies import COLD, STRATEGIES, UNCAPPED, team_draft
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.metrics.geometry import pair_cosines

AUDITED = 0.1  # share of the pairs that is drawn at random, to audit what the strategy does not see


def choose_pairs(
    pool: Pool, strategy: str, budget: int, seed: int | list[int], max_per_image: int | None = None
) -> pd.DataFrame:
    """Choose the next pairs to ask.

    Parameters
    ----------
    pool : the pairs that may be asked, and the model that scores them
    strategy : a name of ``STRATEGIES``
    budget, max_per_image : number of pairs, and of pairs that one image may be part of (any when
        not given)

    Returns
    -------
    image1 < image2, score (cosine), p_similar (NaN without a calibration), strategy, audit: at most
    `budget` rows. Of lists also `query`, whose results they are, and where the pool has a model
    `before`, the results' places in the orders of both, from 1: place_before, place_learnt

    Raises
    ------
    ValueError
        for an unknown strategy, or one that needs a calibration when there is none.
    """
    rule = STRATEGIES.find(strategy)
    if pool.model.calibration is None and strategy not in COLD | UNCAPPED:
        raise ValueError(
            f"strategy {strategy} needs a calibrated head; start with {' or '.join(sorted(COLD))}"
        )
    rng, audited = np.random.default_rng(seed), 0
    chosen = _Taken(len(pool.names) if strategy in UNCAPPED else max_per_image or len(pool.names))
    if pool.n_pairs():
        chosen.add(round(AUDITED * budget), pool, STRATEGIES["random"], rng)
        audited = len(chosen.pairs)
        chosen.add(budget - audited, pool, rule, rng)
    i, j = np.array(list(chosen.pairs), dtype=np.int64).reshape(-1, 2).T
    cosine, audit = pair_cosines(pool.unit, i, j), np.arange(len(i)) < audited
    table = pd.DataFrame(
        {
            "image1": pool.names[i],  # i < j, and names are sorted within a class
            "image2": pool.names[j],
            "score": cosine,
            "p_similar": pool.model.p_similar(cosine),
            "strategy": np.where(audit, "random", strategy),
            "audit": audit,
        }
    )
    if strategy != "lists":
        return table
    query = np.array(list(chosen.pairs.values()), np.int64)
    return table.assign(
        query=np.where(audit, "", pool.names[query]),
        **_places(pool, query, np.where(query == i, j, i), ~audit),
    )


def _places(pool, query, result, listed):
    """Where both rankers of a pool put each result of a query (n,), from 1; NaN for what is not in
    a list.
    """
    if pool.before is None:
        return {}
    places = np.full((2, len(query)), np.nan)
    for one in np.unique(query[listed]):
        rows = listed & (query == one)
        for place, order in zip(places, pool.orders(one)):
            place[rows] = 1 + pd.Index(order).get_indexer(result[rows])
    return dict(zip(["place_before", "place_learnt"], places))


def redrafted(
    pool: Pool, pairs: pd.DataFrame, replaced: np.ndarray, seed: int | list[int]
) -> pd.DataFrame:
    """The asked pairs with newly drafted lists in place of some; each as long as the one before, so
    that all others keep their places.

    Parameters
    ----------
    pool : without the pairs that stay; with a model `before`
    pairs : image1, image2, query, strategy, place_before, place_learnt, and further columns
    replaced : (n,) number of the list to replace that a row belongs to; -1 for a row that stays
    """
    rng, pairs, used = np.random.default_rng(seed), pairs.copy(), set()
    # of images that have no list yet: two lists of one image, side by side, would be read as one
    queries = iter(rng.permutation(np.flatnonzero(~np.isin(pool.names, pairs["query"]))))
    numbers, sizes = np.unique(replaced[replaced >= 0], return_counts=True)
    for number, size in zip(numbers, sizes):
        for query in queries:
            orders = [
                [row for row in order if (min(row, query), max(row, query)) not in used]
                for order in pool.orders(query)
            ]
            if len(orders[0]) >= size:
                break
        else:
            return pairs  # every image has been asked about
        results = team_draft(*map(np.array, orders), size, rng)
        i, j = np.minimum(query, results), np.maximum(query, results)
        used |= {*zip(i.tolist(), j.tolist())}
        places = _places(pool, np.full(size, query), results, np.ones(size, bool))
        new = {"image1": pool.names[i], "image2": pool.names[j], "query": pool.names[query]}
        for name, values in {**new, **places}.items():
            pairs.loc[replaced == number, name] = values
    return pairs


class _Taken:
    """Pairs of rows i < j taken so far, in order, none twice, no row more often than the cap
    allows; of each pair the row that the strategy named first.
    """

    def __init__(self, max_per_image: int):
        self.max_per_image, self.pairs, self.used = max_per_image, {}, Counter()

    def add(self, wanted: int, pool: Pool, strategy, rng: np.random.Generator) -> None:
        """Ask a strategy for longer and longer lists until `wanted` of its pairs are taken."""
        enough, size = len(self.pairs) + wanted, 8 * wanted
        while len(self.pairs) < enough:
            for i, j in zip(*map(np.ndarray.tolist, strategy(pool, size, rng))):
                pair = min(i, j), max(i, j)
                if len(self.pairs) == enough:
                    return
                if pair not in self.pairs and max(self.used[i], self.used[j]) < self.max_per_image:
                    self.pairs[pair] = i
                    self.used.update(pair)
            if size >= pool.n_pairs():
                return
            size *= 4


def automatic_zeros(
    images: Images, n: int, seed: int, exclude: pd.DataFrame = NO_PAIRS
) -> pd.DataFrame:
    """Draw `n` random pairs of two classes: grade 0 without asking anybody.

    images : with side and group; a pair's images stand on one side, in two groups
    exclude : image1, image2 of pairs not to draw again

    Returns image1 < image2, similarity (0.0); fewer than `n` rows where there are fewer such pairs.
    """
    rng = np.random.default_rng(seed)
    table = images.table.assign(_class=images.classes.to_numpy()).sort_values("image")
    codes = [pd.factorize(table[column])[0] for column in ("_class", "side", "group")]
    excluded_pairs = set(map(frozenset, zip(exclude.image1, exclude.image2)))
    total = len(table) * (len(table) - 1) // 2
    pairs, size = [], 8 * n
    names = table.image.to_numpy(str)
    while len(pairs) < n and total:
        i, j = random_pairs(np.array([0, len(table)]), size, rng)
        kind, split, group = (code[i] != code[j] for code in codes)
        ok = kind & ~split & group
        candidates = zip(names[i[ok]].tolist(), names[j[ok]].tolist())
        pairs = [pair for pair in candidates if frozenset(pair) not in excluded_pairs][:n]
        if size >= total:
            break
        size *= 4
    return pd.DataFrame(pairs, columns=["image1", "image2"]).assign(similarity=0.0)
