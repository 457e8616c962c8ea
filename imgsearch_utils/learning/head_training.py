"""Training a Siamese head on graded pairs of images, or on comparisons, with cached vectors."""

import threading
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import softplus

from imgsearch_utils.encoders.encoder import one_thread
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.learning.heads import PLAIN, Head, Recipe
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.learning.training_statistics import TrainingStatistics
from imgsearch_utils.metrics.geometry import PAIRS
from imgsearch_utils.study import HeadSettings

VOTE, SCALE = 0.3, 20.0  # weight of the votes' loss beside the grades', and the steepness of it
COMPARED = 5.0  # the steepness of comparisons' loss; steeper, it stops to learn too early
PULLED = 64  # unlabelled images a step, whose pairs are pulled apart; and triplets of votes
POOL = 2_048  # unlabelled images that take part in a training at most
TINY = 1e-24  # the least squared length
_drawing = threading.Lock()  # torch draws first weights from one generator of the process


class PairRows:
    """Graded pairs as tensors: rows `i`, `j` (n,) of the vectors (m, d) of the images `names`, and
    `grades` (n,).

    others : rows of the images `more`
    triplets : (3, t) rows of anchors, of images that votes say are similar to them, and of ones
    that are not
    compared : (3, c) rows of the comparisons' queries, of the closer and of the farther images"""

    def __init__(
        self,
        images: Images,
        table: pd.DataFrame,
        more: list[str] = (),
        votes: pd.DataFrame | None = None,
        comparisons: pd.DataFrame | None = None,
    ):
        table = table[table.similarity.notna()]
        triplets = np.empty((0, 3), object) if votes is None else triplets_of(images.both_of(votes))
        compared = (
            np.empty((0, 3), object)
            if comparisons is None
            else comparisons_among(comparisons, images).to_numpy(object)
        )
        grades = table.similarity.to_numpy(float)
        if not np.isin(grades, (0, 1, 2, 3)).all():
            raise ValueError(
                f"similarity must be 0, 1, 2 or 3, got {grades[~np.isin(grades, (0, 1, 2, 3))][0]}"
            )
        parts = [[*table.image1, *table.image2], triplets.T.ravel(), compared.T.ravel(), list(more)]
        names = np.concatenate(parts).astype(str)
        self.names, rows = np.unique(names, return_inverse=True)
        pairs, voted, compared, others = map(
            torch.tensor, np.split(rows, np.cumsum([len(part) for part in parts[:-1]]))
        )
        self.i, self.j = pairs.reshape(2, -1)
        self.triplets, self.compared = voted.reshape(3, -1), compared.reshape(3, -1)
        self.others = others
        self.grades = torch.tensor(grades, dtype=torch.long)
        self.vectors = torch.tensor(images.vectors_of(list(self.names)), dtype=torch.float32)

    def __len__(self):
        return len(self.grades)


def comparisons_among(comparisons: pd.DataFrame, images: Images) -> pd.DataFrame:
    """The comparisons (query, closer, farther, and no other column) whose three images are among
    these.
    """
    known = comparisons[["query", "closer", "farther"]]
    return known[known.isin(set(images.names)).all(axis=1)]


def triplets_of(votes: pd.DataFrame) -> np.ndarray:
    """Names (t, 3) of an anchor, an image voted similar to it (3), and one voted not similar
    (0).
    """
    both = pd.concat([votes, votes.rename(columns={"image1": "image2", "image2": "image1"})])[
        list(votes)
    ]
    up, down = both[both.similarity == 3], both[both.similarity == 0]
    return up.merge(down, on="image1", suffixes=("", "_not"))[
        ["image1", "image2", "image2_not"]
    ].to_numpy(object)


def train_head(
    images: Images,
    pairs: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    recipe: Recipe = PLAIN,
    watch: Callable[[Head, torch.nn.Module], dict] | None = None,
    statistics: TrainingStatistics | None = None,
    votes: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
) -> tuple[Head, pd.DataFrame]:
    """Train a head from scratch, ``settings.epochs`` times over the pairs and the comparisons; safe
    to call from several threads.

    Parameters
    ----------
    images : those that may teach: their mean centres the vectors, two or more classes add the class
        part, and ``recipe.decorrelation`` pulls random ones apart
    pairs : image1, image2, similarity; rows without a grade take no part
    watch : called with the head and the loss after each epoch; what it returns joins the history
    statistics : of these images, where it is known already
    votes : image1, image2, similarity (3 or 0), weak labels that say an order alone: what is voted
        similar to an image comes before what is voted not similar to it; of images that may not
        teach, they are left out
    comparisons : query, closer, farther; they need no grade, and have batches of their own
        (``order_loss``); those of images that may not teach are left out

    Returns
    -------
    head : in evaluation mode
    history : one row an epoch: epoch, train_loss, and what `watch` returned; one row of epoch 0
        without a network

    Raises
    ------
    ValueError for neither a graded training pair nor a comparison where a network is trained, a
        grade outside 0..3, an image without a vector, an unknown head or loss.
    """
    rng = np.random.default_rng(seed)
    pool = (
        images.names
        if len(images) <= POOL
        else rng.choice(images.names, POOL, replace=False).tolist()
    )
    train = PairRows(images, pairs, pool if recipe.decorrelation else (), votes, comparisons)
    if recipe.network and not len(train) and not train.compared.numel():
        raise ValueError(
            "expected graded training pairs or comparisons, got none; label some pairs of training "
            "images first"
        )
    loss = LOSSES.find(recipe.loss or settings.loss)(settings)
    similar = [train.vectors[rows[train.grades == 3]] for rows in (train.i, train.j)]
    with one_thread():  # so that a seed gives the same head each time
        statistics = statistics or TrainingStatistics.of(
            images.vectors, images.classes.to_numpy(str), settings
        )
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = Head.untrained(statistics, settings, recipe, similar)
        head.made_of = {"encoder": images.embeddings.encoder, "vectors": images.embeddings.sha256}
        watch = watch or (lambda *_: {})
        if head.network is None:
            return head.eval(), pd.DataFrame(
                [{"epoch": 0, "train_loss": np.nan, **watch(head.eval(), loss)}]
            )
        rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        optimizer = torch.optim.AdamW([*head.parameters(), *loss.parameters()], **rates, fused=True)
        history, epoch = [], _Epoch(head, loss, optimizer, train, settings.batch_size, seed)
        for number in range(1, settings.epochs + 1):
            history.append({"epoch": number, "train_loss": epoch.run(), **watch(head.eval(), loss)})
    return head, pd.DataFrame(history)


class _Epoch:
    """Passes over the shuffled pairs and comparisons.

    What the network leaves out of the vectors stays as it is. It adds to the embeddings' inner
    products and lengths what is known beforehand, so that a step computes and differentiates the
    network's part alone."""

    def __init__(self, head, loss, optimizer, train, batch_size, seed):
        self.head, self.loss, self.optimizer, self.train, self.batch_size = (
            head,
            loss,
            optimizer,
            train,
            batch_size,
        )
        self.generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            x = head.whitened(head.centred(train.vectors))
            self.inside = x @ head.basis.T
            self.rest = x - self.inside @ head.basis if head.network.keeps_rest else x[:, :0]
            self.rest_length2 = (self.rest**2).sum(1)
            self.paired, *voted_and_compared = (
                self._rest_products(one, two)
                for one, two in (
                    (train.i, train.j),
                    *(
                        part
                        for rows in (train.triplets, train.compared)
                        for part in (rows[:2], rows[::2])
                    ),
                )
            )
            # of anchors with what comes first, and with what comes after it
            self.voted, self.compared = voted_and_compared[:2], voted_and_compared[2:]

    def _rest_products(self, one, two):
        """Inner products (n,) of the rests of rows `one` and `two`."""
        parts = zip(one.split(PAIRS), two.split(PAIRS))
        return torch.cat([(self.rest[a] * self.rest[b]).sum(1) for a, b in parts])

    def run(self) -> float:
        """One pass; the mean loss of a pair or comparison."""
        head, train, total = self.head.train(), self.train, 0.0
        pulled = bool(head.recipe.decorrelation) and len(train.others) > 1
        for batch, compared in self._batches():
            images, rows = torch.unique(
                torch.cat([train.i[batch], train.j[batch]]), return_inverse=True
            )
            others = train.others[self._some(len(train.others))] if pulled else train.others[:0]
            votes = self._some(train.triplets.shape[1] if len(batch) else 0)
            # one pass of the network for all
            every = [images, others, train.triplets[:, votes], train.compared[:, compared]]
            every = [rows_of.flatten() for rows_of in every]
            unit, scale = self._parts(torch.cat(every), [len(rows_of) for rows_of in every])
            value = torch.zeros(())
            if len(batch):
                pair_rows = rows.reshape(2, -1)
                cosines = _cosines(unit[0], scale[0], *pair_rows, self.paired[batch])
                value = self.loss(cosines, *pair_rows, train.grades[batch])
            if hasattr(head.network, "penalty"):
                value = value + head.network.penalty()
            if len(others):
                pull = self._pull(unit[1], scale[1], self.rest[others])
                value = value + head.recipe.decorrelation * pull
            if len(votes):
                gain = _gain(unit[2], scale[2], *(rest[votes] for rest in self.voted))
                value = value + VOTE * order_loss(gain)
            if len(compared):
                gain = _gain(unit[3], scale[3], *(rest[compared] for rest in self.compared))
                value = value + order_loss(gain, COMPARED)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            total += value.item() * (len(batch) + len(compared))
        return total / (len(train) + train.compared.shape[1])

    def _batches(self):
        """Of each step the pairs, or the comparisons, that it learns from; in a random order where
        there are both.
        """
        none, sizes = (
            torch.empty(0, dtype=torch.long),
            (len(self.train), self.train.compared.shape[1]),
        )
        pairs, compared = (
            torch.randperm(n, generator=self.generator).split(self.batch_size) if n else ()
            for n in sizes
        )
        steps = [*((batch, none) for batch in pairs), *((none, batch) for batch in compared)]
        if all(sizes):
            steps = [steps[i] for i in torch.randperm(len(steps), generator=self.generator)]
        return steps

    def _parts(self, rows, sizes):
        """The network's part (m, e) of the embeddings of rows and their scale (m,), in parts of so
        many.
        """
        out = self.head.network(self.inside[rows])
        length = ((out**2).sum(1) + self.rest_length2[rows]).clamp_min(TINY).sqrt()
        return (out / length[:, None]).split(sizes), (1 / length).split(sizes)

    def _some(self, n):
        """At most ``PULLED`` of `n` things, drawn without replacement."""
        return (
            torch.randperm(n, generator=self.generator)[:PULLED]
            if n
            else torch.empty(0, dtype=torch.long)
        )

    def _pull(self, unit, scale, rest):
        """Mean squared cosine of all pairs of distinct rows."""
        n, cosines = len(unit), unit @ unit.T + rest @ rest.T * scale[:, None] * scale
        return (cosines**2).triu(1).sum() * 2 / (n * (n - 1))


def _cosines(unit, scale, i, j, rest):
    """Cosines of rows `i` and `j`, of the network's parts (m, e) and the inner products (n,) of
    their rests.
    """
    return (unit[i] * unit[j]).sum(1) + rest * scale[i] * scale[j]


def _gain(unit, scale, rest_first, rest_after):
    """By how much the anchors' cosines with what comes first exceed those with what comes after it,
    (n,); of 3n rows: anchors, firsts, afters.
    """
    anchor, first, after = torch.arange(len(scale)).reshape(3, -1)
    return _cosines(unit, scale, anchor, first, rest_first) - _cosines(
        unit, scale, anchor, after, rest_after
    )


def order_loss(gain: torch.Tensor, scale: float = SCALE) -> torch.Tensor:
    """Mean loss of an order that votes or comparisons say, of cosines' differences (n,) (RankNet:
    Burges et al., ICML 2005).
    """
    return softplus(-scale * gain).mean() / scale
