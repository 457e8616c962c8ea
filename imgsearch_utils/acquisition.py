"""Which pairs to ask people next: strategies by name, over all unlabelled pairs of training images."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imgsearch_utils.calibration import Calibration
from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.losses import Registry
from imgsearch_utils.siamese import Head, pair_cosines

#: name -> strategy(pool, size, rng) -> (i, j): at most `size` allowed pairs of the pool's rows, best first
STRATEGIES = Registry("strategy")
BLOCK = 2048
PAIR_COLUMNS = ["image1", "image2", "score", "p_similar", "strategy", "audit"]


@dataclass(frozen=True)
class Pool:
    """The pairs that may be asked: both images of one class, of two near-duplicate groups, not labelled yet.

    Images are sorted by class; class c owns the rows starts[c] .. starts[c + 1].

    names : n image names
    unit : (n, e) unit embeddings, the head's (the encoder's where there is no head)
    group : (n,) near-duplicate group
    labelled : sorted keys ``low row * n + high row`` of labelled pairs
    calibration : of the cosines of `unit`, or None
    """

    names: np.ndarray
    unit: np.ndarray
    starts: np.ndarray
    group: np.ndarray
    labelled: np.ndarray
    calibration: Calibration | None

    def allowed(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Mask (n,) of the pairs i < j that are unlabelled and of two groups."""
        return (self.group[i] != self.group[j]) & ~np.isin(i * len(self.names) + j, self.labelled)

    def n_pairs(self) -> int:
        """All same-class pairs, allowed or not."""
        sizes = np.diff(self.starts)
        return int((sizes * (sizes - 1) // 2).sum())

    def random(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return `size` distinct same-class pairs (fewer where there are fewer), uniformly, some not allowed."""
        sizes = np.diff(self.starts)
        ends = np.cumsum(sizes * (sizes - 1) // 2)
        drawn = rng.choice(int(ends[-1]), min(size, int(ends[-1])), replace=False)
        of = np.searchsorted(ends, drawn, side="right")
        code = drawn - np.concatenate([[0], ends])[of]  # within a class, pair (low < high) is high(high-1)/2 + low
        high = ((1 + np.sqrt(8.0 * code + 1)) / 2).astype(np.int64)
        high -= high * (high - 1) // 2 > code
        high += (high + 1) * high // 2 <= code
        return self.starts[of] + code - high * (high - 1) // 2, self.starts[of] + high

    def best(self, utility: Callable[[np.ndarray], np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `size` allowed pairs of highest utility, best first; ties by row.

        utility : cosines (any shape) -> utilities of that shape. Scored in blocks: memory does not grow with n * n.
        """
        kept = np.empty((0, 3))  # utility, i, j
        floor = -np.inf
        for start, end in zip(self.starts[:-1], self.starts[1:]):
            for top in range(start, end, BLOCK):
                for left in range(top, end, BLOCK):
                    a, b = self.unit[top : min(top + BLOCK, end)], self.unit[left : min(left + BLOCK, end)]
                    value = utility(a @ b.T)
                    i, j = np.nonzero(value > floor)
                    value, i, j = value[i, j], i + top, j + left
                    ok = (i < j) & self.allowed(i, j)
                    kept = np.concatenate([kept, np.stack([value, i, j], 1)[ok]])
                    if len(kept) > size:
                        kept = kept[np.lexsort((kept[:, 2], kept[:, 1], -kept[:, 0]))[:size]]
                        floor = kept[-1, 0]
        order = np.lexsort((kept[:, 2], kept[:, 1], -kept[:, 0]))
        return kept[order, 1].astype(np.int64), kept[order, 2].astype(np.int64)


@STRATEGIES.register("random")
def random_pairs(pool, size, rng):
    """Uniformly random pairs."""
    i, j = pool.random(size, rng)
    ok = pool.allowed(i, j)
    return i[ok], j[ok]


@STRATEGIES.register("uncertainty")
def uncertain_pairs(pool, size, rng):
    """Cosine nearest to the calibrated threshold (the published study's; Lewis and Gale 1994)."""
    threshold = pool.calibration.cosine_at_threshold()
    return pool.best(lambda cosine: -np.abs(cosine - np.clip(threshold, -1, 1)), size)


def _pool(embeddings, head, calibration, labelled, images, class_column):
    images = images[images.side == "train"]
    images = images.sort_values([class_column, "image"] if class_column else "image")
    names = images.image.to_numpy(str)
    vectors = np.asarray(embeddings.of(names), np.float32)
    unit = head.embed(vectors) if head else vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sizes = images.groupby(class_column).size().to_numpy() if class_column else [len(images)]
    row = pd.Series(np.arange(len(names)), index=names)
    known = labelled[labelled.image1.isin(row.index) & labelled.image2.isin(row.index)]
    a, b = row[known.image1].to_numpy(), row[known.image2].to_numpy()
    keys = np.unique(np.minimum(a, b) * len(names) + np.maximum(a, b))
    return Pool(names, unit, np.cumsum([0, *sizes]), images.group.to_numpy(), keys, calibration)


def _take(pool, strategy, budget, rng, taken, used, max_per_image):
    """Ask a strategy for longer and longer lists until `budget` pairs respect the cap; add them to `taken`."""
    wanted, size = len(taken) + budget, 8 * budget
    while budget:
        i, j = strategy(pool, size, rng)
        for pair in zip(i.tolist(), j.tolist()):
            if len(taken) == wanted:
                return
            if pair not in taken and max(used[pair[0]], used[pair[1]]) < max_per_image:
                taken[pair] = None
                used.update(pair)
        if len(taken) == wanted or size >= pool.n_pairs():
            return
        size *= 4


def choose_pairs(
    strategy: str,
    embeddings: Embeddings,
    head: Head | None,
    calibration: Calibration | None,
    labelled: pd.DataFrame,
    images: pd.DataFrame,
    class_column: str | None,
    budget: int,
    max_per_image: int,
    seed: int,
    audit_share: float = 0.1,
) -> pd.DataFrame:
    """Choose the next pairs to ask.

    Parameters
    ----------
    strategy : a name of ``STRATEGIES``
    head, calibration : the latest round's; None before the first (``random`` needs neither)
    labelled : image1, image2 of all pairs labelled so far (a pair waiting for an answer may stand here too)
    images : image, group, side and class columns; only side "train" is asked about
    class_column : only pairs of one class are asked, those of two classes are automatic zeros; None: all pairs
    budget, max_per_image : number of pairs, and of pairs that one image may be part of
    audit_share : this share of the budget is drawn at random, to audit what the strategy does not see

    Returns
    -------
    image1 < image2, score (cosine), p_similar (NaN without a calibration), strategy, audit: at most `budget` rows

    Raises
    ------
    ValueError
        for an unknown strategy, or one that needs a calibration when there is none.
    """
    rule = STRATEGIES.find(strategy)
    if calibration is None and strategy != "random":
        raise ValueError(f"strategy {strategy} needs a calibrated head; start with random")
    pool, rng = _pool(embeddings, head, calibration, labelled, images, class_column), np.random.default_rng(seed)
    taken, used = {}, Counter()
    if pool.n_pairs():
        _take(pool, random_pairs, round(audit_share * budget), rng, taken, used, max_per_image)
        audits = len(taken)
        _take(pool, rule, budget - audits, rng, taken, used, max_per_image)
    i, j = np.array(list(taken), dtype=np.int64).reshape(-1, 2).T
    cosine = pair_cosines(pool.unit, i, j)
    audit = np.arange(len(i)) < (audits if len(i) else 0)
    return pd.DataFrame({
        "image1": pool.names[i],  # i < j, and names are sorted within a class
        "image2": pool.names[j],
        "score": cosine,
        "p_similar": calibration.predict(cosine)[:, 3] if calibration else np.nan,
        "strategy": np.where(audit, "random", strategy),
        "audit": audit,
    })  # fmt: skip


def automatic_zeros(
    images: pd.DataFrame, class_column: str, n: int, seed: int, exclude: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Draw `n` random pairs of two classes: grade 0 without asking anybody.

    images : image, side, group and the class column; a pair's images stand on one side, in two groups
    exclude : image1, image2 of pairs not to draw again

    Returns image1 < image2, similarity (0.0); fewer than `n` rows where there are fewer such pairs.
    """
    rng = np.random.default_rng(seed)
    images = images.sort_values("image").reset_index(drop=True)
    codes = [pd.factorize(images[column])[0] for column in (class_column, "side", "group")]
    known = set() if exclude is None else set(map(frozenset, zip(exclude.image1, exclude.image2)))
    total = len(images) * (len(images) - 1) // 2
    pairs, size = [], 8 * n
    whole = Pool(images.image.to_numpy(str), np.empty((len(images), 0)), np.array([0, len(images)]),
                 np.arange(len(images)), np.empty(0, np.int64), None)
    while len(pairs) < n and total:
        i, j = whole.random(size, rng)
        kind, side, group = (code[i] != code[j] for code in codes)
        ok = kind & ~side & group
        candidates = zip(whole.names[i[ok]].tolist(), whole.names[j[ok]].tolist())
        pairs = [pair for pair in candidates if frozenset(pair) not in known][:n]
        if size >= total:
            break
        size *= 4
    return pd.DataFrame(pairs, columns=["image1", "image2"]).assign(similarity=0.0)
