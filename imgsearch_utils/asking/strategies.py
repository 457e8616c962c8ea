"""Acquisition strategies by name: from the pool of pairs, the ones to ask first."""

import numpy as np
from scipy.special import entr
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from imgsearch_utils.asking.pool import Pool
from imgsearch_utils.grades.pairs import LIST
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.metrics.geometry import pair_cosines
from imgsearch_utils.workspace.registry import Registry

#: name -> strategy(pool, size, rng) -> rows (i, j): at most `size` allowed pairs, best first
STRATEGIES = Registry("strategy")
COLD = {"random", "stratified", "typical"}  # these can choose the first pairs of a study
# these ask many pairs of one image on purpose; they need no calibration either
UNCAPPED = {"lists"}
SHORTLIST = 10  # the costly strategies look at this many times the pairs that they return
PASSES = 8  # of dropout


@STRATEGIES.register("random")
def random(pool: Pool, size: int, rng: np.random.Generator):
    """Uniformly random pairs."""
    return pool.random(size, rng)


@STRATEGIES.register("stratified")
def stratified(pool, size, rng):
    """Random pairs in equal number from ten strata of the cosine of equal width: similar pairs are
    among them.
    """
    i, j = pool.random(50 * size, rng)
    cosine = pair_cosines(pool.unit, i, j)
    edges = np.linspace(cosine.min(), cosine.max(), 11)[1:-1] if len(cosine) else np.zeros(9)
    turn = _turns(np.digitize(cosine, edges))
    order = np.argsort(turn, kind="stable")[:size]
    return i[order], j[order]


@STRATEGIES.register("uncertainty")
def uncertainty(pool, size, rng):
    """Cosine nearest to the calibrated threshold (Lewis and Gale 1994; the published study's)."""
    threshold = np.clip(pool.model.calibration.cosine_at_threshold(), -1, 1)
    return pool.best(lambda cosine: -np.abs(cosine - threshold), size, rng)


@STRATEGIES.register("mixed")
def mixed(pool, size, rng):
    """In turns the pair of highest cosine, as similar pairs are rare, and the most uncertain
    one.
    """
    likely = pool.best(lambda cosine: cosine, size, rng)
    both = [
        chosen for pair in zip(zip(*likely), zip(*uncertainty(pool, size, rng))) for chosen in pair
    ]
    i, j = np.array(list(dict.fromkeys(both))[:size], dtype=np.int64).reshape(-1, 2).T
    return i, j


@STRATEGIES.register("lists")
def lists(pool, size, rng):
    """The first dozen results of one query after the other; the queries in random order."""
    found_i, found_j, n = [], [], 0
    for query in rng.permutation(len(pool.names)):
        others = pool.of_class(query)
        i, j = np.minimum(query, others), np.maximum(query, others)
        allowed = (others != query) & pool.allowed(i, j)
        i, j, cosine = (
            i[allowed],
            j[allowed],
            (pool.unit[others[0] : others[-1] + 1] @ pool.unit[query])[allowed],
        )
        first = np.argsort(-cosine, kind="stable")[:LIST]
        found_i.append(i[first])
        found_j.append(j[first])
        n += len(first)
        if n >= size:
            break
    return np.concatenate(found_i)[:size], np.concatenate(found_j)[:size]


@STRATEGIES.register("entropy")
def entropy(pool, size, rng):
    """Highest entropy of P(grade) (Shannon; Settles 2009)."""
    return pool.best(lambda cosine: entr(pool.model.calibration.predict(cosine)).sum(1), size, rng)


@STRATEGIES.register("disagreement")
def disagreement(pool, size, rng):
    """Disagreement under dropout of the input, spread over pair features.

    On a shortlist of highest entropy, P(grade 3) is predicted `PASSES` times with 30 % of the
    encoder's values dropped (DropQuery: Gupte et al. 2024); pairs are then drawn one by one with a
    chance in proportion to their standard deviation times the squared distance to the nearest pair
    drawn (k-means++ as in BADGE: Ash et al. 2020)."""
    i, j = entropy(pool, SHORTLIST * size, rng)
    if not len(i):
        return i, j
    rows, place = np.unique([i, j], return_inverse=True)
    vectors, predictions = pool.images.vectors_of(pool.names[rows]), []
    for _ in range(PASSES):
        kept = rng.random(vectors.shape) < 0.7
        unit = pool.model.vectors((vectors * kept / 0.7).astype(np.float32))
        predictions.append(
            pool.model.calibration.predict(pair_cosines(unit, *place.reshape(2, -1)))[:, 3]
        )
    spread = np.std(predictions, axis=0) + 1e-9
    order = _spread_out(_features(pool, i, j, rng), size, spread, rng)
    return i[order], j[order]


@STRATEGIES.register("core_set")
def core_set(pool, size, rng):
    """Farthest first from all pairs labelled or chosen so far, in pair features (Sener and Savarese
    2018).
    """
    i, j = pool.random(SHORTLIST * size, rng)
    known = np.divmod(pool.labelled, len(pool.names))
    both = np.concatenate([i, known[0]]), np.concatenate([j, known[1]])
    features = _features(pool, *both, rng)
    order = _spread_out(features[: len(i)], size, None, rng, features[len(i) :])
    return i[order], j[order]


@STRATEGIES.register("typical")
def typical(pool, size, rng):
    """The pair in the densest place of each of as many clusters as pairs are asked (TypiClust:
    Hacohen et al. 2022).
    """
    i, j = pool.random(SHORTLIST * size, rng)
    if len(i) < 3:
        return i, j
    features = _features(pool, i, j, rng)
    neighbours = min(20, len(i) - 1)
    far = NearestNeighbors(n_neighbors=neighbours + 1).fit(features).kneighbors(features)[0].mean(1)
    clusters = MiniBatchKMeans(
        min(pool.budget, len(i)), random_state=int(rng.integers(2**31)), n_init=1
    ).fit(features)
    crowd = np.bincount(clusters.labels_)[clusters.labels_]
    # densest first; then in turns, one of each cluster, large clusters first
    dense = np.argsort(far, kind="stable")
    turn = _turns(clusters.labels_[dense])
    order = dense[np.lexsort((-crowd[dense], turn))][:size]
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


def _spread_out(features, size, weight, rng, known=None):
    """Rows far from one another and from `known`: the farthest next, or drawn by `weight` x squared
    distance.
    """
    import torch  # here: who only asks which pairs wait does not wait for it

    features = torch.from_numpy(np.ascontiguousarray(features))
    nearest = np.full(len(features), np.inf)
    if known is not None and len(known):
        for part in torch.from_numpy(np.ascontiguousarray(known)).split(256):
            nearest = np.minimum(
                nearest, torch.cdist(features, part).min(1).values.numpy().astype(float) ** 2
            )
    chosen = []
    for _ in range(min(size, len(features))):
        value = np.where(np.isinf(nearest), 1.0, nearest) * (1.0 if weight is None else weight)
        value[chosen] = 0.0
        if not value.any():
            # only copies of chosen pairs are left
            value[np.setdiff1d(np.arange(len(value)), chosen)] = 1.0
        pick = (
            int(np.argmax(value))
            if weight is None
            else int(rng.choice(len(value), p=value / value.sum()))
        )
        chosen.append(pick)
        nearest = np.minimum(nearest, ((features - features[pick]) ** 2).sum(1).numpy())
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
