"""The Siamese head: a small network on cached image embeddings, trained on graded pairs."""

import importlib.metadata
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from imgsearch_utils.embeddings import Embeddings
from imgsearch_utils.losses import LOSSES, Registry
from imgsearch_utils.study import HeadSettings

#: name -> builder(dim, settings) of a module (n, dim) -> (n, e); a module may have ``penalty() -> scalar``
HEADS = Registry("head")


@HEADS.register("residual")
class Residual(torch.nn.Module):
    """x + MLP(x) with one hidden layer; the last layer starts at zero, so the head starts as the encoder itself."""

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        last = torch.nn.Linear(settings.hidden, dim)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        layers = torch.nn.Linear(dim, settings.hidden), torch.nn.ReLU(), torch.nn.Dropout(settings.dropout), last
        self.correction = torch.nn.Sequential(*layers)

    def forward(self, x):
        return x + self.correction(x)


@HEADS.register("linear")
class Linear(torch.nn.Module):
    """x + x D with D = 0 at the start; ``drift`` times the squared norm of D is added to the loss."""

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        self.change = torch.nn.Parameter(torch.zeros(dim, dim))
        self.dropout = torch.nn.Dropout(settings.dropout)
        self.drift = settings.drift

    def forward(self, x):
        return x + self.dropout(x) @ self.change

    def penalty(self):
        return self.drift * (self.change**2).sum()


@HEADS.register("mlp")
class MLP(torch.nn.Module):
    """The published study's head: dim -> hidden -> hidden / 2 with a ReLU between, started at random."""

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        wide, narrow = settings.hidden, max(1, settings.hidden // 2)
        self.layers = torch.nn.Sequential(torch.nn.Linear(dim, wide), torch.nn.ReLU(), torch.nn.Linear(wide, narrow))

    def forward(self, x):
        return self.layers(x)


class Head(torch.nn.Module):
    """Encoder vectors -> unit embeddings whose cosine follows people's grades.

    Input is normalised, centred by the training images' mean and normalised again (unless ``settings.centre`` is
    off). With ``settings.members`` > 1 the embedding is the members' unit embeddings side by side, so that its
    cosine is the mean of the members' cosines.
    """

    def __init__(self, dim: int, settings: HeadSettings, mean: np.ndarray | None = None):
        super().__init__()
        self.dim, self.settings = dim, settings
        self.register_buffer("mean", torch.as_tensor(np.zeros(dim) if mean is None else mean, dtype=torch.float32))
        build = HEADS.find(settings.head)
        self.members = torch.nn.ModuleList(build(dim, settings) for _ in range(settings.members))

    def prepare(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise, centre, normalise: (n, dim) -> (n, dim); unchanged where ``settings.centre`` is off."""
        return normalize(normalize(vectors) - self.mean) if self.settings.centre else vectors

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        x = self.prepare(vectors)
        return torch.cat([normalize(member(x)) for member in self.members], 1) / len(self.members) ** 0.5

    def embed(self, vectors: np.ndarray, block: int = 8192) -> np.ndarray:
        """Return unit embeddings (n, e) float32 of encoder vectors (n, dim), `block` rows at a time."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"vectors must be (n_images, {self.dim}), got {vectors.shape}; use this head's encoder")
        self.eval()
        with torch.inference_mode():
            rows = [self(torch.tensor(vectors[at : at + block], dtype=torch.float32)) for at in
                    range(0, max(1, len(vectors)), block)]
            return torch.cat(rows).numpy()

    def save(self, folder: Path) -> None:
        """Write ``head.safetensors`` and ``config.json`` into `folder` (made by the caller, renamed when complete)."""
        config = {
            "dim": self.dim,
            "settings": self.settings.model_dump(),
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "torch", "safetensors")},
        }
        save_file({k: tensor.contiguous() for k, tensor in self.state_dict().items()}, folder / "head.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_head(folder: Path) -> Head:
    """Read a head that ``Head.save`` wrote.

    Raises
    ------
    ValueError
        one line when a file is absent, broken, or when weights and settings do not belong together.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        head = Head(config["dim"], HeadSettings.model_validate(config["settings"]))
        head.load_state_dict(load_file(folder / "head.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} does not hold a head of this package ({reason}); train the round again") from None
    return head


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
        embeddings = head(dev.vectors)
        value = loss(embeddings, dev.i, dev.j, dev.grades).item()
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
) -> tuple[Head, pd.DataFrame]:
    """Train a head from scratch; the epoch with the lowest dev loss is kept (the last one without dev pairs).

    Parameters
    ----------
    embeddings : the encoder's
    train_pairs, dev_pairs : image1, image2, similarity; rows without a grade take no part
    progress : called with (epochs done, epochs in all)
    train_images : images whose mean centres the vectors; those of `train_pairs` when absent

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
        head = Head(train.vectors.shape[1], settings, normalize(centring).mean(0).numpy())
        loss = LOSSES.find(settings.loss)(settings)
        parameters = [*head.parameters(), *loss.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
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
