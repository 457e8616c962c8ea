"""Training a Siamese head on graded pairs of images with cached vectors."""

import threading
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize, softplus

from imgsearch_utils.learning.ground import Ground
from imgsearch_utils.learning.heads import PLAIN, Head, Recipe
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.vectors.encoder import one_thread
from imgsearch_utils.vectors.images import Images

VOTE, SCALE = 0.3, 20.0  # weight of the votes' loss beside the grades', and the steepness of it
PULLED = 64  # unlabelled images a step, whose pairs are pulled apart; and triplets of votes
POOL = 2_048  # unlabelled images that take part in a training at most
_drawing = threading.Lock()  # torch draws first weights from one generator of the process


class PairRows:
    """Graded pairs as tensors: rows `i`, `j` (n,) of the vectors (m, d) of the images `names`, and `grades` (n,).

    others : rows of the images `more`
    triplets : (3, t) rows of anchors, of images that votes say are similar to them, and of ones that are not
    """

    def __init__(self, images: Images, table: pd.DataFrame, more: list[str] = (), votes: pd.DataFrame | None = None):
        table = table[table.similarity.notna()]
        triplets = np.empty((0, 3), object) if votes is None else triplets_of(images.both_of(votes))
        grades = table.similarity.to_numpy(float)
        if not np.isin(grades, (0, 1, 2, 3)).all():
            raise ValueError(f"similarity must be 0, 1, 2 or 3, got {grades[~np.isin(grades, (0, 1, 2, 3))][0]}")
        names = np.concatenate([table.image1, table.image2, *triplets.T, list(more)]).astype(str)
        self.names, rows = np.unique(names, return_inverse=True)
        pairs, voted, others = np.split(rows, [2 * len(table), 2 * len(table) + triplets.size])
        self.i, self.j = torch.tensor(pairs).reshape(2, -1)
        self.triplets, self.others = torch.tensor(voted).reshape(3, -1), torch.tensor(others)
        self.grades = torch.tensor(grades, dtype=torch.long)
        self.vectors = torch.tensor(images.vectors_of(list(self.names)), dtype=torch.float32)

    def __len__(self):
        return len(self.grades)


def triplets_of(votes: pd.DataFrame) -> np.ndarray:
    """Names (t, 3) of an anchor, an image voted similar to it (3), and one voted not similar (0)."""
    both = pd.concat([votes, votes.rename(columns={"image1": "image2", "image2": "image1"})])[list(votes)]
    up, down = both[both.similarity == 3], both[both.similarity == 0]
    return up.merge(down, on="image1", suffixes=("", "_not"))[["image1", "image2", "image2_not"]].to_numpy(object)


def train_head(images: Images, pairs: pd.DataFrame, settings: HeadSettings, seed: int, recipe: Recipe = PLAIN,
               watch: Callable[[Head, torch.nn.Module], dict] | None = None, ground: Ground | None = None,
               votes: pd.DataFrame | None = None) -> tuple[Head, pd.DataFrame]:
    """Train a head from scratch, ``settings.epochs`` times over the pairs; safe to call from several threads.

    Parameters
    ----------
    images : those that may teach: their mean centres the vectors, two or more classes add the class part, and
        ``recipe.pull`` pulls random ones apart
    pairs : image1, image2, similarity; rows without a grade take no part
    watch : called with the head and the loss after each epoch; what it returns joins the history
    ground : of these images, where it is known already
    votes : image1, image2, similarity (3 or 0), weak labels that say an order alone: what is voted similar to an image
        comes before what is voted not similar to it; of images that may not teach, they are left out

    Returns
    -------
    head : in evaluation mode
    history : one row an epoch: epoch, train_loss, and what `watch` returned; one row of epoch 0 without a network

    Raises
    ------
    ValueError
        for no graded training pair where a network is trained, a grade outside 0..3, an image without a vector, an
        unknown head or loss.
    """
    rng = np.random.default_rng(seed)
    pool = images.names if len(images) <= POOL else rng.choice(images.names, POOL, replace=False).tolist()
    train = PairRows(images, pairs, pool if recipe.pull else (), votes)
    if recipe.network and not len(train):
        raise ValueError("expected graded training pairs, got none; label some pairs of training images first")
    loss = LOSSES.find(settings.loss)(settings)
    similar = [train.vectors[rows[train.grades == 3]] for rows in (train.i, train.j)]
    with one_thread():  # so that a seed gives the same head each time
        ground = ground or Ground.of(images.vectors, images.classes.to_numpy(str), settings)
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = Head.untrained(ground, settings, recipe, similar)
        head.made_of = {"encoder": images.embeddings.encoder, "vectors": images.embeddings.sha256}
        watch = watch or (lambda *_: {})
        if head.network is None:
            return head.eval(), pd.DataFrame([{"epoch": 0, "train_loss": np.nan, **watch(head.eval(), loss)}])
        rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        optimizer = torch.optim.AdamW([*head.parameters(), *loss.parameters()], **rates, fused=True)
        history, epoch = [], _Epoch(head, loss, optimizer, train, settings.batch_size, seed)
        for number in range(1, settings.epochs + 1):
            history.append({"epoch": number, "train_loss": epoch.run(), **watch(head.eval(), loss)})
    return head, pd.DataFrame(history)


class _Epoch:
    """Passes over the shuffled pairs.

    What the network leaves out of the vectors stays as it is, so that it is computed once: an embedding is the
    network's output and, beside it, this rest.
    """

    def __init__(self, head, loss, optimizer, train, batch_size, seed):
        self.head, self.loss, self.optimizer, self.train, self.batch_size = head, loss, optimizer, train, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            x = head.whitened(head.centred(train.vectors))
            self.inside = x @ head.basis.T
            rest = x - self.inside @ head.basis if head.network.keeps_rest else x[:, :0]
            if len(rest) < rest.shape[1]:  # the same inner products in fewer numbers
                rest = torch.linalg.qr(rest.T.double())[1].T.float()
            self.rest = rest

    def _embed(self, rows):
        return normalize(torch.cat([self.head.network(self.inside[rows]), self.rest[rows]], 1))

    def run(self) -> float:
        """One pass; the mean loss of a pair."""
        head, train, total = self.head.train(), self.train, 0.0
        for batch in torch.randperm(len(train), generator=self.generator).split(self.batch_size):
            images, rows = torch.unique(torch.cat([train.i[batch], train.j[batch]]), return_inverse=True)
            value = self.loss(self._embed(images), *rows.reshape(2, -1), train.grades[batch])
            if hasattr(head.network, "penalty"):
                value = value + head.network.penalty()
            if head.recipe.pull and len(train.others) > 1:
                value = value + head.recipe.pull * self._pull()
            if train.triplets.numel():
                value = value + VOTE * self._votes()
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            total += value.item() * len(batch)
        return total / len(train)

    def _votes(self):
        """Mean loss of the order that a few votes say (RankNet: Burges et al., ICML 2005)."""
        some = torch.randperm(self.train.triplets.shape[1], generator=self.generator)[:PULLED]
        anchor, similar, other = (self._embed(rows) for rows in self.train.triplets[:, some])
        return softplus(SCALE * (anchor * (other - similar)).sum(1)).mean() / SCALE

    def _pull(self):
        """Mean squared cosine of the pairs of a few random images."""
        order = torch.randperm(len(self.train.others), generator=self.generator)[:PULLED]
        embeddings = self._embed(self.train.others[order])
        n = len(embeddings)
        return ((embeddings @ embeddings.T) ** 2).triu(1).sum() * 2 / (n * (n - 1))
