"""Which comparisons to ask: a picture, and two of its results, of which one may be more like it."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from imgsearch_utils.grades.pairs import key
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.model import Model

AMONG = 36  # first results that candidates are drawn from: neither all alike, nor all unlike
QUESTION = ["query", "candidate1", "candidate2"]


def choose_questions(
    images: Images,
    models: Sequence[Model],
    size: int,
    seed: int,
    known: Collection[tuple[str, str, str]] = (),
) -> pd.DataFrame:
    """Draw questions "which of the two is more like the first?".

    Queries come in random order, each as often as the others. The candidates are two of the query's
    first ``AMONG`` results, of its class where there are classes, and of three groups together with
    it.

    Parameters
    ----------
    images : those that may teach, with group
    models : one, or two: then each gives one candidate. What one score puts first is no fair judge
        of that score; of questions that encoder and head make together, neither chooses its own
        judge
    known : (query, candidate, candidate), the candidates in canonical order, not to ask again

    Returns
    -------
    query, candidate1, candidate2, the candidates in random order; fewer than `size` rows where
        there are not as many questions
    """
    rng, asked, rows = np.random.default_rng(seed), set(known), []
    names, group = np.array(images.names, object), images.table.group.to_numpy()
    classes = images.classes.to_numpy()
    units = [model.vectors(np.asarray(images.vectors, np.float32)) for model in models]
    while len(rows) < size:
        before = len(rows)
        for query in rng.permutation(len(names)):
            others = np.flatnonzero((classes == classes[query]) & (group != group[query]))
            first = [
                others[np.argsort(-(unit[others] @ unit[query]), kind="stable")[:AMONG]]
                for unit in units
            ]
            pair = _two_of(first, group, rng)
            if pair is None:
                continue
            question = str(names[query]), *key(*names[pair])
            if question not in asked:
                asked.add(question)
                rows.append((names[query], *names[pair]))
            if len(rows) == size:
                break
        if len(rows) == before:  # a whole pass found nothing new
            break
    return pd.DataFrame(rows, columns=QUESTION)


def _two_of(first: list[np.ndarray], group: np.ndarray, rng: np.random.Generator):
    """Rows [a, b] of two results of two groups, in random order; None where there are none."""
    one, two = first[0], first[-1]
    if not len(one):
        return None
    a = rng.choice(one)
    two = two[group[two] != group[a]]
    return rng.permutation([a, rng.choice(two)]) if len(two) else None
