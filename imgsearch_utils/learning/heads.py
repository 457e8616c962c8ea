"""Heads: small networks on cached image embeddings, by name; on disk as safetensors and JSON."""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from imgsearch_utils.registry import Registry
from imgsearch_utils.study import HeadSettings, difference
from imgsearch_utils.vectors.embeddings import Embeddings
from imgsearch_utils.workspace import KEPT, read_json, write_json

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
    off). The embedding is, side by side, the unit embeddings of ``settings.members`` networks, so that its cosine is
    the mean of theirs; and, where classes were given in training, the square roots of the class probabilities of a
    logistic regression, whose product is the Bhattacharyya coefficient: it makes ``settings.class_share`` of the
    cosine. Classes are known of every training image and so cost no pair labels.

    made_of : `encoder`, what made the vectors that the head was trained on, and `vectors`, their digest; empty where
        that is not known
    """

    def __init__(self, dim: int, settings: HeadSettings, mean: np.ndarray | None = None, n_classes: int = 0):
        super().__init__()
        self.dim, self.settings, self.n_classes, self.made_of = dim, settings, n_classes, {}
        self.register_buffer("mean", torch.as_tensor(np.zeros(dim) if mean is None else mean, dtype=torch.float32))
        self.register_buffer("class_weight", torch.zeros(n_classes, dim))
        self.register_buffer("class_bias", torch.zeros(n_classes))
        build = HEADS.find(settings.head)
        self.members = torch.nn.ModuleList(build(dim, settings) for _ in range(settings.members))

    def prepare(self, vectors: torch.Tensor) -> torch.Tensor:
        """Normalise, centre, normalise: (n, dim) -> (n, dim); unchanged where ``settings.centre`` is off."""
        return normalize(normalize(vectors) - self.mean) if self.settings.centre else vectors

    def learn_classes(self, vectors: torch.Tensor, classes: np.ndarray) -> None:
        """Fit the class part on training images: vectors (n, dim), class names (n,) of ``n_classes`` kinds."""
        model = LogisticRegression(C=3.0, max_iter=1000).fit(self.prepare(vectors).numpy(), classes)
        weight, bias = model.coef_, model.intercept_
        if self.n_classes == 2:  # scikit-learn keeps one row for two classes
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        self.class_weight.copy_(torch.as_tensor(weight))
        self.class_bias.copy_(torch.as_tensor(bias))

    def networks(self, x: torch.Tensor) -> torch.Tensor:
        """The trained part of the embedding, (n, e) of unit length, of prepared vectors."""
        return torch.cat([normalize(member(x)) for member in self.members], 1) / len(self.members) ** 0.5

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        x = self.prepare(vectors)
        if not self.n_classes:
            return self.networks(x)
        classes = torch.softmax(x @ self.class_weight.T + self.class_bias, 1).sqrt()
        share = self.settings.class_share
        return torch.cat([(1 - share) ** 0.5 * self.networks(x), share**0.5 * classes], 1)

    def embed(self, vectors: np.ndarray, block: int = 8192) -> np.ndarray:
        """Return unit embeddings (n, e) float32 of encoder vectors (n, dim), `block` rows at a time."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"vectors must be (n_images, {self.dim}), got {vectors.shape}; use this head's encoder")
        self.eval()
        with torch.inference_mode():
            rows = [self(torch.tensor(vectors[at : at + block], dtype=torch.float32)) for at in
                    range(0, max(1, len(vectors)), block)]
            return torch.cat(rows).numpy()

    def check_fits(self, embeddings: Embeddings) -> None:
        """ValueError where another encoder made these embeddings than those that the head was trained on."""
        ours, theirs = self.made_of.get("encoder"), embeddings.encoder
        if ours and ours != theirs:
            raise ValueError("the head was trained on vectors of another encoder than these ("
                             f"{'; '.join(difference(ours, theirs))}); make the vectors again with the run's own "
                             "(imgsearch embed), or learn anew in another run")

    def _about(self) -> dict:
        return {"dim": self.dim, "n_classes": self.n_classes, "settings": self.settings.model_dump(mode="json")}

    @property
    def sha256(self) -> str:
        """Digest of weights and settings: two heads with the same one give the same embeddings."""
        about = json.dumps(self._about(), sort_keys=True)
        return hashlib.sha256(save(self._weights(), {"about": about})).hexdigest()

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.contiguous() for name, tensor in self.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write ``head.safetensors`` and ``config.json`` into `folder` (made by the caller, renamed when complete)."""
        versions = {name: importlib.metadata.version(name) for name in ("numpy", "torch", "safetensors")}
        save_file(self._weights(), folder / "head.safetensors")
        write_json(folder / "config.json", {**self._about(), "made_of": self.made_of, "versions": versions})


def load_head(folder: Path) -> Head:
    """Read a head that ``Head.save`` wrote.

    Raises
    ------
    ValueError
        one line when a file is absent, broken, or when weights and settings do not belong together.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / "config.json", "dim", "settings", "n_classes")
        head = Head(config["dim"], HeadSettings.model_validate(config["settings"]), n_classes=config["n_classes"])
        head.load_state_dict(load_file(folder / "head.safetensors"))
        head.made_of = dict(config.get("made_of", {}))
    except (OSError, ValueError, KeyError, TypeError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder} does not hold a head of this package ({reason}); train the round again") from None
    return head


KEPT[".safetensors"] = (lambda head, file: head.save(file.parent), lambda file: load_head(file.parent))
