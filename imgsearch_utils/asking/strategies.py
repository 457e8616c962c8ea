"""Acquisition strategies by name: from the pool of pairs, the ones to ask first."""

import numpy as np
from scipy.spatial.distance import cdist

from imgsearch_utils.asking.pool import Pool
from imgsearch_utils.grades.pairs import LIST
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.workspace.registry import Registry

#: name -> strategy(pool, size, rng) -> rows (i, j): at most `size` allowed pairs, best first
STRATEGIES = Registry("strategy")
COLD = {"random", "stratified"}  # these can choose the first pairs of a study
# these ask many pairs of one image on purpose; they need no calibration either
UNCAPPED = {"lists"}
SHORTLIST = 10  # random pairs that `core_set` chooses from, per pair that it returns


@STRATEGIES.register("random")
def random(pool: Pool, size: int, rng: np.random.Generator):
    """Uniformly random pairs."""
    return pool.random(size, rng)


@STRATEGIES.register("stratified")
def stratified(pool, size, rng):
    """Random pairs in equal number from ten strata of the encoder's cosine of equal width: similar
    pairs are among them.
    """
    i, j = pool.random(50 * size, rng)
    # the encoder's in any round, so that it is known how often a stratum's pairs were drawn
    cosine = pool.encoder_cosines(i, j)
    edges = np.linspace(cosine.min(), cosine.max(), 11)[1:-1] if len(cosine) else np.zeros(9)
    turn = _turns(np.digitize(cosine, edges))
    order = np.argsort(turn, kind="stable")[:size]
    return i[order], j[order]


@STRATEGIES.register("uncertainty")
def uncertainty(pool, size, rng):
    """Cosine nearest to the calibrated threshold (Lewis and Gale 1994; the published study's)."""
    threshold = np.clip(pool.model.calibration.cosine_at_threshold(), -1, 1)
    return pool.best(lambda cosine: -np.abs(cosine - threshold), size, rng)


@STRATEGIES.register("lists")
def lists(pool, size, rng):
    """A dozen results of one query after the other, half of them by each of the pool's two rankers;
    the queries in random order.

    Pairs that one score put first are no fair judge between it and another. So the rankers choose
    in turns (team-draft interleaving: Radlinski, Kurup & Joachims, CIKM 2008): the first half
    dozen of either is among the dozen.
    """
    queries, results, n = [], [], 0
    for query in rng.permutation(len(pool.names)):
        drafted = team_draft(*pool.orders(query), LIST, rng)
        queries.append(np.full(len(drafted), query))
        results.append(drafted)
        n += len(drafted)
        if n >= size:
            break
    return np.concatenate(queries)[:size], np.concatenate(results)[:size]


def team_draft(one: np.ndarray, two: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The first `size` of two orders (n,) of the same things, each choosing its best that is left
    in turns; chance says who begins a turn.
    """
    teams, drafted = (one[:size].tolist(), two[:size].tolist()), []
    while len(drafted) < min(size, len(one)):
        for team in rng.permutation(2)[: size - len(drafted)]:
            drafted += [row for row in teams[team] if row not in drafted][:1]
    return np.array(drafted, np.int64)


@STRATEGIES.register("core_set")
def core_set(pool, size, rng):
    """Farthest first from all pairs labelled or chosen so far, in pair features (Sener and Savarese
    2018).
    """
    i, j = pool.random(SHORTLIST * size, rng)
    labelled_rows = np.divmod(pool.labelled, len(pool.names))
    features = _features(pool, np.append(i, labelled_rows[0]), np.append(j, labelled_rows[1]), rng)
    order = _farthest_first(features[: len(i)], size, features[len(i) :])
    return i[order], j[order]


def _turns(kind):
    """How many of the same kind stand before each place: 0 for the first of its kind."""
    order = np.argsort(kind, kind="stable")
    first = np.searchsorted(kind[order], kind[order], side="left")
    turns = np.empty(len(kind), np.int64)
    turns[order] = np.arange(len(kind)) - first
    return turns


def _features(pool, i, j, rng, width=64):
    """[|u - v|, u * v] of each pair (n, 2 e), projected at random to (n, `width`) where that is
    narrower.
    """
    u, v = pool.unit[i], pool.unit[j]
    both = np.concatenate([np.abs(u - v), u * v * np.sqrt(u.shape[1])], 1)
    if both.shape[1] <= width:
        return both
    return both @ (rng.standard_normal((both.shape[1], width)) / np.sqrt(width)).astype(both.dtype)


def _farthest_first(features, size, known):
    """Rows far from one another and from `known`: always the farthest next."""
    nearest = np.full(len(features), np.inf)
    for start in range(0, len(known), 256):
        distances = cdist(features, known[start : start + 256], "sqeuclidean")
        nearest = np.minimum(nearest, distances.min(1))
    chosen = []
    for _ in range(min(size, len(features))):
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
        to_last = ((features - features[chosen[-1]]) ** 2).sum(1)
        nearest = np.minimum(nearest, to_last)
    return np.array(chosen, dtype=np.int64)


def first_strategy(images: Images, taught: bool = False) -> str:
    """What chooses a study's first pairs, before anything is learnt.

    Pairs of one class are similar often enough to be drawn at random. Without classes hardly any
    random pair is, so they are drawn from strata of the cosine.

    taught : by people, who grade a list of results several times as fast as single pairs
    (``benchmarks.teaching``)"""
    return "lists" if taught else "random" if images.has_classes else "stratified"


def usual_strategy(images: Images, taught: bool = False) -> str:
    """What chooses the next pairs where a study names no strategy: what won for its kind (notebook
    11).

    Without classes the first results of one query after the other; with classes nothing beat random
    pairs, grade by grade. People are asked lists in any case, which take less of their time."""
    return "lists" if taught or not images.has_classes else "random"
