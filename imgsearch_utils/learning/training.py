"""Training a Siamese head on graded pairs of images with cached vectors."""

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from imgsearch_utils.learning.heads import Head
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.vectors.encoder import one_thread
from imgsearch_utils.vectors.images import Images


class _Pairs:
    """Graded pairs as tensors: rows of the vectors of the images that take part."""

    def __init__(self, images: Images, table: pd.DataFrame):
        table = table[table.similarity.notna()]
        grades = table.similarity.to_numpy(float)
        if not np.isin(grades, (0, 1, 2, 3)).all():
            raise ValueError(f"similarity must be 0, 1, 2 or 3, got {grades[~np.isin(grades, (0, 1, 2, 3))][0]}")
        names = pd.concat([table.image1, table.image2])
        self.names, rows = np.unique(names.to_numpy(str), return_inverse=True)
        self.i, self.j = torch.tensor(rows).reshape(2, -1)
        self.grades = torch.tensor(grades, dtype=torch.long)
        self.vectors = torch.tensor(images.vectors_of(list(self.names)), dtype=torch.float32)

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


def train_head(images: Images, pairs: pd.DataFrame, settings: HeadSettings, seed: int,
               dev: pd.DataFrame | None = None) -> tuple[Head, pd.DataFrame]:
    """Train a head from scratch; the epoch with the lowest dev loss is kept (the last one without dev pairs).

    Parameters
    ----------
    images : those that may teach: their mean centres the vectors, and two or more classes add the class part. The
        images of `dev` are not among them, but have vectors
    pairs, dev : image1, image2, similarity; rows without a grade take no part

    Returns
    -------
    head : the kept epoch's, in evaluation mode
    history : one row an epoch: epoch, train_loss, dev_loss, dev_ap, dev_roc_auc

    Raises
    ------
    ValueError
        for no graded training pair, a grade outside 0..3, an image without a vector, an unknown head or loss.
    """
    train, dev = _Pairs(images, pairs), _Pairs(images, pairs[:0] if dev is None else dev)
    if not len(train):
        raise ValueError("expected graded training pairs, got none; label some pairs of training images first")
    vectors, classes = torch.tensor(images.vectors), images.classes
    history, best, kept = [], np.inf, None
    with torch.random.fork_rng(devices=[]), one_thread():  # so that a seed gives the same head each time
        torch.manual_seed(seed)
        n_classes = classes.nunique() if settings.class_share else 0
        mean = normalize(vectors).mean(0).numpy()
        head = Head(vectors.shape[1], settings, mean, n_classes if n_classes > 1 else 0)
        if head.n_classes:
            head.learn_classes(vectors, classes.to_numpy(str))
        loss = LOSSES.find(settings.loss)(settings)
        rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        optimizer = torch.optim.AdamW([*head.parameters(), *loss.parameters()], **rates, fused=True)
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(1, settings.epochs + 1):
            train_loss = _train_epoch(head, loss, optimizer, train, settings.batch_size, generator)
            history.append({"epoch": epoch, "train_loss": train_loss, **_dev_measures(head, loss, dev)})
            if not history[-1]["dev_loss"] >= best:
                best, kept = history[-1]["dev_loss"], {k: v.clone() for k, v in head.state_dict().items()}
    head.load_state_dict(kept)
    head.made_of = {"encoder": images.embeddings.encoder, "vectors": images.embeddings.sha256}
    return head.eval(), pd.DataFrame(history)
