"""Which pairs to ask people next: strategies by name, over all unlabelled pairs of training images."""

from collections import Counter

import numpy as np
import pandas as pd

from imgsearch_utils.calibration import Calibration
from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.pair_pool import Pool, random_pairs
from imgsearch_utils.siamese import Head, pair_cosines
from imgsearch_utils.strategies import COLD, STRATEGIES


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
    head, calibration : the latest round's; None before the first (``COLD`` strategies need neither)
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
    if calibration is None and strategy not in COLD:
        raise ValueError(f"strategy {strategy} needs a calibrated head; start with {' or '.join(sorted(COLD))}")
    rng, images = np.random.default_rng(seed), images[images.side == "train"]
    pool = Pool.of(images, class_column, embeddings, head, calibration, labelled, budget)
    taken, used = {}, Counter()
    if pool.n_pairs():
        _take(pool, STRATEGIES["random"], round(audit_share * budget), rng, taken, used, max_per_image)
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
    names = images.image.to_numpy(str)
    while len(pairs) < n and total:
        i, j = random_pairs(np.array([0, len(images)]), size, rng)
        kind, side, group = (code[i] != code[j] for code in codes)
        ok = kind & ~side & group
        candidates = zip(names[i[ok]].tolist(), names[j[ok]].tolist())
        pairs = [pair for pair in candidates if frozenset(pair) not in known][:n]
        if size >= total:
            break
        size *= 4
    return pd.DataFrame(pairs, columns=["image1", "image2"]).assign(similarity=0.0)
