"""Training a Siamese head on graded pairs of images with cached vectors."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.heads import HEADS, Head, load_head
from imgsearch_utils.losses import LOSSES
from imgsearch_utils.study import HeadSettings

__all__ = ["HEADS", "LOSSES", "Head", "load_head", "pair_cosines", "train_head"]


def pair_cosines(unit: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Cosines (n,) of unit vectors' rows `i` and `j`, both (n,); bounded memory for any n."""
    return np.concatenate([np.einsum("nd,nd->n", unit[i[at : at + 65536]], unit[j[at : at + 65536]])
                           for at in range(0, max(1, len(i)), 65536)])


class _Pairs:
    """Graded pairs as tensors: rows of the vectors of the images that take part."""

    def __init__(self, embeddings: Embeddings, table: pd.DataFrame):
        table = table[table.similarity.notna()]
        grades = table.similarity.to_numpy(float)
        if not np.isin(grades, (0, 1, 2, 3)).all():
            raise ValueError(f"similarity must be 0, 1, 2 or 3, got {grades[~np.isin(grades, (0, 1, 2, 3))][0]}")
        names = pd.concat([table.image1, table.image2])
        self.names, rows = np.unique(names.to_numpy(str), return_inverse=True)
        self.i, self.j = torch.tensor(rows).reshape(2, -1)
        self.grades = torch.tensor(grades, dtype=torch.long)
        self.vectors = torch.tensor(embeddings.of(list(self.names)), dtype=torch.float32)

    def __len__(self):
        return len(self.grades)


def _dev_measures(head, loss, dev):
    """Loss, AP and ROC-AUC of grade 3 on the dev pairs; NaN where they cannot be computed."""
    if not len(dev):
        return {"dev_loss": np.nan, "dev_ap": np.nan, "dev_roc_auc": np.nan}
    head.eval()
    with torch.no_grad():
        value = loss(head.networks(head.prepare(dev.vectors)), dev.i, dev.j, dev.grades).item()
        embeddings = head(dev.vectors)
        cosines = (embeddings[dev.i] * embeddings[dev.j]).sum(1).numpy()
    similar = (dev.grades == 3).numpy()
    both = 0 < similar.sum() < len(similar)
    return {
        "dev_loss": value,
        "dev_ap": average_precision_score(similar, cosines) if both else np.nan,
        "dev_roc_auc": roc_auc_score(similar, cosines) if both else np.nan,
    }


def _train_epoch(head, loss, optimizer, train, batch_size, generator):
    """One pass over the shuffled training pairs; returns the mean loss of a pair."""
    head.train()
    total = 0.0
    for batch in torch.randperm(len(train), generator=generator).split(batch_size):
        images, rows = torch.unique(torch.cat([train.i[batch], train.j[batch]]), return_inverse=True)
        i, j = rows.reshape(2, -1)
        x = head.prepare(train.vectors[images])
        value = 0.0
        for member in head.members:
            value = value + loss(normalize(member(x)), i, j, train.grades[batch])
            value = value + (member.penalty() if hasattr(member, "penalty") else 0.0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        total += value.item() * len(batch) / len(head.members)
    return total / len(train)


def train_head(
    embeddings: Embeddings,
    train_pairs: pd.DataFrame,
    dev_pairs: pd.DataFrame,
    settings: HeadSettings,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    train_images: Iterable[str] | None = None,
    classes: pd.Series | None = None,
) -> tuple[Head, pd.DataFrame]:
    """Train a head from scratch; the epoch with the lowest dev loss is kept (the last one without dev pairs).

    Parameters
    ----------
    embeddings : the encoder's
    train_pairs, dev_pairs : image1, image2, similarity; rows without a grade take no part
    progress : called with (epochs done, epochs in all)
    train_images : images whose mean centres the vectors; those of `train_pairs` when absent
    classes : image -> class, of images that are not on the dev or test side; two or more classes add the class part

    Returns
    -------
    head : the kept epoch's, in eval mode
    history : one row an epoch: epoch, train_loss, dev_loss, dev_ap, dev_roc_auc

    Raises
    ------
    ValueError
        for no graded training pair, a grade outside 0..3, an image without a vector, an unknown head or loss.
    """
    train, dev = _Pairs(embeddings, train_pairs), _Pairs(embeddings, dev_pairs)
    if not len(train):
        raise ValueError("expected graded training pairs, got none; label some pairs of training images first")
    centring = train.vectors if train_images is None else torch.tensor(embeddings.of(train_images))
    history, best, kept = [], np.inf, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n_classes = 0 if classes is None or not settings.class_share else classes.nunique()
        mean = normalize(centring).mean(0).numpy()
        head = Head(train.vectors.shape[1], settings, mean, n_classes if n_classes > 1 else 0)
        if head.n_classes:
            head.learn_classes(torch.tensor(embeddings.of(classes.index)), classes.to_numpy(str))
        loss = LOSSES.find(settings.loss)(settings)
        parameters = [*head.parameters(), *loss.parameters()]
        rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        optimizer = torch.optim.AdamW(parameters, **rates, fused=True)
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(1, settings.epochs + 1):
            train_loss = _train_epoch(head, loss, optimizer, train, settings.batch_size, generator)
            history.append({"epoch": epoch, "train_loss": train_loss, **_dev_measures(head, loss, dev)})
            if not history[-1]["dev_loss"] >= best:
                best, kept = history[-1]["dev_loss"], {k: v.clone() for k, v in head.state_dict().items()}
            if progress:
                progress(epoch, settings.epochs)
    head.load_state_dict(kept)
    return head.eval(), pd.DataFrame(history)
