"""The pool of pairs that may be asked: all unlabelled pairs, never listed, scored in blocks of
bounded memory.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from imgsearch_utils.images.near_pairs import MANY, Lists
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.images.vector_store import drop_page_cache
from imgsearch_utils.learning.model import Model
from imgsearch_utils.metrics.geometry import normalised, pair_cosines

BLOCK = 512, 1024  # a block of cosines that stays in the processor's cache
PART = 65_536  # images whose vectors are made at once
# random pairs that give the first bound on the utility; ten times as many of large classes
SAMPLE = 100_000
NEIGHBOURS = 16  # of each image, whose pairs are looked at in a class too large for all its pairs
NO_PAIRS = pd.DataFrame(columns=["image1", "image2"], dtype=str)
ENCODER = Model()


@dataclass(frozen=True)
class Pool:
    """Pairs of one class and of two near-duplicate groups that are not labelled yet.

    Images are sorted by class, then name; class c owns the rows starts[c] .. starts[c + 1]. Pairs
    are rows i < j.

    images : whose vectors these are
    names : n image names
    model : what scores the pairs
    unit : (n, e) the model's vectors
    group : (n,) near-duplicate group
    labelled : sorted keys ``i * n + j`` of labelled pairs
    before : (n, e) vectors of what search used before `model`; what lists are drafted by beside it
    many : images of a class above which not all its pairs are looked at
    """

    images: Images
    names: np.ndarray
    model: Model
    unit: np.ndarray
    starts: np.ndarray
    group: np.ndarray
    labelled: np.ndarray
    before: np.ndarray | None = None
    many: int = MANY

    @classmethod
    def of(
        cls,
        images: Images,
        model: Model = ENCODER,
        labelled: pd.DataFrame = NO_PAIRS,
        before: Model | None = None,
        many: int = MANY,
    ) -> "Pool":
        """Make the pool of all pairs of these images; those of two classes are automatic zeros and
        not in it.

        labelled : image1, image2 of the pairs labelled so far (a pair waiting for an answer may
        stand here too)
        before : what search used before `model`, where lists are to compare the two"""
        table = images.table.assign(_class=images.classes.to_numpy()).sort_values(
            ["_class", "image"]
        )
        names, sizes = table.image.to_numpy(str), table.groupby("_class").size().to_numpy()
        row = pd.Series(np.arange(len(names)), index=names)
        labelled_pairs = images.both_of(labelled)
        a, b = row[labelled_pairs.image1].to_numpy(), row[labelled_pairs.image2].to_numpy()
        keys = np.unique(np.minimum(a, b) * len(names) + np.maximum(a, b))
        return cls(
            images,
            names,
            model,
            _unit_vectors(images, names, model),
            np.cumsum([0, *sizes]),
            table.group.to_numpy(),
            keys,
            None if before is None else _unit_vectors(images, names, before),
            many,
        )

    def allowed(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Mask (n,) of the pairs i < j that are unlabelled and of two groups."""
        return (self.group[i] != self.group[j]) & ~np.isin(self._keys(i, j), self.labelled)

    def of_class(self, row: int) -> np.ndarray:
        """Rows (m,) of the images of the same class as one row."""
        at = np.searchsorted(self.starts, row, side="right")
        return np.arange(self.starts[at - 1], self.starts[at])

    def orders(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """The allowed results (m,) of a query, by ``before`` and by ``model``, best first.

        Where nothing was learnt yet, by the encoder's vectors and by these less their mean.
        """
        others = self.of_class(query)
        i, j = np.minimum(query, others), np.maximum(query, others)
        allowed = (others != query) & self.allowed(i, j)
        rows = slice(others[0], others[-1] + 1)
        if self.before is None:
            cosines = self.unit[rows] @ self.unit[query], self._centred[rows] @ self._centred[query]
        else:
            cosines = self.before[rows] @ self.before[query], self.unit[rows] @ self.unit[query]
        return tuple(others[allowed][np.argsort(-c[allowed], kind="stable")] for c in cosines)

    @cached_property
    def _centred(self) -> np.ndarray:
        return normalised(self.unit - self.unit.mean(0))

    def encoder_cosines(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """The encoder's cosines of pairs (n,), whatever the model."""
        if self.model.name == "encoder":
            return pair_cosines(self.unit, i, j)
        return ENCODER.cosines(
            self.images, pd.DataFrame({"image1": self.names[i], "image2": self.names[j]})
        )

    def n_pairs(self) -> int:
        """All same-class pairs, allowed or not."""
        sizes = np.diff(self.starts)
        return int((sizes * (sizes - 1) // 2).sum())

    def random(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw `size` distinct same-class pairs (all where there are fewer), uniformly; return the
        allowed ones.
        """
        i, j = random_pairs(self.starts, size, rng)
        ok = self.allowed(i, j)
        return i[ok], j[ok]

    def best(
        self, utility: Callable[[np.ndarray], np.ndarray], size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `size` allowed pairs of highest utility, best first; ties by row.

        utility : cosines (n,) -> utilities (n,); one peak, or smooth at the scale of 1/2000

        A random sample bounds the utility of the last pair kept; the cosines above the bound form
        an interval, and most blocks are dismissed by one look at each row's nearest distance to its
        middle. Memory holds one block. Of a class with more than `many` images, the pairs of
        neighbours and a larger random sample are looked at: what is most similar is among the
        first, and what is not is common enough to be among the second."""
        i, j = self.random(SAMPLE, rng)
        best_so_far = _ranked(i, j, utility(pair_cosines(self.unit, i, j)), size)
        if self.n_pairs() <= SAMPLE:
            return best_so_far[0], best_so_far[1]
        floor = best_so_far[2][-1] if len(best_so_far[2]) == size else -np.inf
        middle, half = _interval(utility, floor)
        import torch  # here: who only asks which pairs wait does not wait for it

        buffer, candidate_parts, n_candidates = torch.empty(BLOCK[0] * BLOCK[1]), [], 0
        for start, end in self._classes(large=False):
            unit = torch.from_numpy(self.unit[start:end])
            left = torch.cat([unit, torch.ones(len(unit), 1)], 1)
            right = left.clone()
            right[:, -1] = -middle
            for a0, a1, b0, b1 in blocks(end - start):
                block = buffer[: (a1 - a0) * (b1 - b0)].view(a1 - a0, b1 - b0)
                torch.mm(left[a0:a1], right[b0:b1].T, out=block)
                rows = torch.nonzero(block.abs_().amin(1) <= half)[:, 0]
                if not len(rows):
                    continue
                r, c = torch.nonzero(block[rows] <= half, as_tuple=True)
                i, j = rows[r].numpy() + start + a0, c.numpy() + start + b0
                ok = i < j
                i, j = i[ok], j[ok]
                ok = self.allowed(i, j)
                candidate_parts.append(
                    (i[ok], j[ok], utility(pair_cosines(self.unit, i[ok], j[ok])))
                )
                n_candidates += int(ok.sum())
                if n_candidates > 4 * size:
                    best_so_far = _ranked(*map(np.concatenate, zip(*candidate_parts)), size)
                    candidate_parts, n_candidates = [best_so_far], len(best_so_far[0])
                    middle, half = _interval(utility, best_so_far[2][-1])
                    right[:, -1] = -middle
        if self._classes(large=True):
            for i, j, cosine in self._of_large_classes(rng):
                ok = self.allowed(i, j)
                candidate_parts.append((i[ok], j[ok], utility(cosine[ok])))
                candidate_parts = [_ranked(*map(np.concatenate, zip(*candidate_parts)), size)]
        return (
            _ranked(*map(np.concatenate, zip(*candidate_parts)), size)[:2]
            if candidate_parts
            else (i[:0], j[:0])
        )

    def _classes(self, large: bool) -> list[tuple[int, int]]:
        """First and last row + 1 of the classes that have more than `many` images, or of the
        others.
        """
        ends = zip(self.starts[:-1].tolist(), self.starts[1:].tolist())
        return [(start, end) for start, end in ends if (end - start > self.many) == large]

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys (m,), sorted, and cosines (m,) of the pairs of neighbours in the large classes."""
        pairs = np.concatenate(
            [
                Lists.of(self.unit[start:end]).edges(NEIGHBOURS) + start
                for start, end in self._classes(large=True)
            ]
        ).T
        return self._keys(*pairs), pair_cosines(self.unit, *pairs)

    def _keys(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return i * len(self.names) + j

    def _of_large_classes(
        self, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Pairs of neighbours and random pairs in the large classes with their cosines, part by
        part, none twice.
        """
        keys, cosines = self._neighbours
        for at in range(0, len(keys), SAMPLE):
            yield *np.divmod(keys[at : at + SAMPLE], len(self.names)), cosines[at : at + SAMPLE]
        i, j = random_pairs(self.starts, 10 * SAMPLE, rng)
        drawn = self._keys(i, j)
        place = np.searchsorted(keys, drawn).clip(max=max(0, len(keys) - 1))
        new = np.diff(self.starts)[np.searchsorted(self.starts, i, side="right") - 1] > self.many
        if len(keys):
            new &= keys[place] != drawn
        for at in range(0, int(new.sum()), SAMPLE):
            one, two = i[new][at : at + SAMPLE], j[new][at : at + SAMPLE]
            yield one, two, pair_cosines(self.unit, one, two)


def _unit_vectors(images: Images, names: np.ndarray, model: Model) -> np.ndarray:
    """A model's vectors (n, e) of images, made part by part."""
    parts = (
        model.vectors(np.asarray(images.vectors_of(names[at : at + PART]), np.float32))
        for at in range(0, max(1, len(names)), PART)
    )
    unit = next(parts)
    if len(names) <= PART:
        return unit
    all_units = np.empty((len(names), unit.shape[1]), np.float32)  # no second copy of so much
    for at, part in zip(range(0, len(names), PART), itertools.chain([unit], parts)):
        all_units[at : at + PART] = part
    drop_page_cache(images.embeddings.vectors)
    return all_units


def random_pairs(
    starts: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `size` distinct pairs i < j of one class, uniformly; class c owns the rows starts[c] ..
    starts[c + 1].
    """
    sizes = np.diff(starts)
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    drawn = rng.choice(int(ends[-1]), min(size, int(ends[-1])), replace=False)
    pair_class = np.searchsorted(ends, drawn, side="right")
    # within a class, pair (low < high) is high(high-1)/2 + low
    code = drawn - np.concatenate([[0], ends])[pair_class]
    high = ((1 + np.sqrt(8.0 * code + 1)) / 2).astype(np.int64)
    high -= high * (high - 1) // 2 > code
    high += (high + 1) * high // 2 <= code
    return starts[pair_class] + code - high * (high - 1) // 2, starts[pair_class] + high


def blocks(n: int):
    """Yield (a0, a1, b0, b1): blocks of rows that cover every pair i < j of n rows once."""
    for top in range(0, n, BLOCK[0]):
        for left in range(top, n, BLOCK[1]):
            yield top, min(top + BLOCK[0], n), left, min(left + BLOCK[1], n)


def _ranked(i, j, value, size):
    order = np.lexsort((j, i, -value))[:size]
    return i[order], j[order], value[order]


def _interval(utility, floor):
    """Middle and half width of the cosines whose utility reaches `floor`, by zooming a grid; a
    little too wide.
    """
    low, high = -1.0, 1.0
    while True:
        grid = np.linspace(low, high, 4097)
        value = utility(grid)
        above = np.flatnonzero(value >= min(floor, value.max()))
        first, last = grid[max(above[0] - 1, 0)], grid[min(above[-1] + 1, 4096)]
        if last - first > 0.9 * (high - low) or last - first < 1e-6:
            return (first + last) / 2, (last - first) / 2 + 1e-6
        low, high = first, last
