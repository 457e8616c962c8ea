"""In which order somebody is shown the pairs to grade: random, but the same for one seed and
annotator.
"""

import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.grades.journal import REPEAT
from imgsearch_utils.grades.pairs import LIST, key


class Item(NamedTuple):
    """One place in the queue.

    source : "repeat" where a pair is asked a second time
    list : the number of the list in which it is shown, as one of the results of its left picture;
    -1: by itself"""

    left: str
    right: str
    source: str
    list: int = -1

    @property
    def pair(self) -> tuple[str, str]:
        return key(self.left, self.right)


def make_queue(
    pairs: pd.DataFrame, seed: int, annotator: str, repeats: float, source: str = "person"
) -> list[Item]:
    """Put pairs, and the two pictures of each, in an order that is random but the same for one seed
    and annotator.

    Parameters
    ----------
    repeats : share of the pairs that come again, at least a quarter of the queue later, left and
        right exchanged

    Pairs that the strategy "lists" chose (column `strategy`) stay together, a query with its
    results: ``lists_of``."""
    n, units = len(pairs), lists_of(pairs)
    rng = np.random.default_rng([seed, zlib.crc32(annotator.encode())])
    order, exchanged = rng.permutation(len(units)), rng.random(len(units)) < 0.5
    first, ends = [], []
    for number, exchange in zip(order, exchanged):
        unit = units[number]
        if len(unit) > 1:
            first += [Item(*pair, source, int(number)) for pair in unit]
        else:
            first.append(Item(*unit[0][:: -1 if exchange else 1], source))
        ends += [len(first)] * len(unit)
    again = rng.permutation(n // 2)[: round(repeats * n)]
    second = [Item(first[i].right, first[i].left, REPEAT) for i in again]
    # a place; what comes again follows the list that is there
    after = rng.uniform(again + max(1, n // 4), n)
    places = np.concatenate(
        [np.arange(n), [ends[int(place)] - 1 + place / (n + 1) for place in after]]
    )
    queue = first + second
    return [queue[i] for i in np.argsort(places, kind="stable")]


def lists_of(pairs: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """The pairs in units that are shown together: rows of the strategy "lists" that share an image,
    at most 12.

    pairs : image1, image2, perhaps strategy
    Returns for each unit its pairs; in one of several pairs, the shared image comes first.
    """
    strategies = pairs.strategy if "strategy" in pairs else [""] * len(pairs)
    # older runs do not say whose results they are
    queries = pairs["query"] if "query" in pairs else [""] * len(pairs)
    units: list[list[tuple[str, str]]] = []
    shared: set[str] = set()  # images of all pairs of the last unit
    last = None
    for one, two, strategy, query in zip(pairs.image1, pairs.image2, strategies, queries):
        listed = {one, two} if strategy == "lists" else set()
        same, last = query == last, query
        if listed & shared and same and len(units[-1]) < LIST:
            shared &= listed
            units[-1].append((one, two))
            units[-1] = [pair if pair[0] in shared else pair[::-1] for pair in units[-1]]
        else:
            shared = listed
            units.append([(one, two)])
    return units
