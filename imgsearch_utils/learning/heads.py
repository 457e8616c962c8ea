"""Heads: small networks on cached image embeddings, by name; on disk as safetensors and JSON."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.nn.functional import normalize

from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.learning.training_statistics import TrainingStatistics, centred, whitening
from imgsearch_utils.study import HeadSettings, difference
from imgsearch_utils.workspace import KEPT, read_json, write_json
from imgsearch_utils.workspace.registry import Registry

# : name -> builder(dim, settings) of a module (n, dim) -> (n, e). ``keeps_rest``: its output stands
# for its input, and
#: what the input leaves out of the vector is added again. It may have ``penalty() -> scalar``
HEADS = Registry("head")


@dataclass(frozen=True)
class Recipe:
    """How a head is made.

    whiten : damp the directions in which similar pairs differ
    network : train the study's network (``settings.head``) on the graded pairs
    pull : weight, in the network's loss, of the mean squared cosine of random pairs of training
        images, which are rarely similar: it holds the rest of the space where the graded pairs say
        nothing of it
    loss : a name of ``LOSSES`` to train the network by; the study's where it is empty
    """

    whiten: bool = False
    network: bool = True
    decorrelation: float = 0.0
    loss: str = ""


PLAIN = Recipe()


@HEADS.register("residual")
class Residual(torch.nn.Module):
    """x + MLP(x) with one hidden layer; the last layer starts at zero, so the head starts as its
    input.
    """

    keeps_rest = True

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        last = torch.nn.Linear(settings.hidden, dim)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        self.correction = torch.nn.Sequential(
            torch.nn.Linear(dim, settings.hidden), torch.nn.ReLU(), last
        )

    def forward(self, x):
        return x + self.correction(x)


@HEADS.register("linear")
class Linear(torch.nn.Module):
    """x + x D with D = 0 at the start; ``drift`` times the squared norm of D is added to the
    loss.
    """

    keeps_rest = True

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        self.change = torch.nn.Parameter(torch.zeros(dim, dim))
        self.drift = settings.drift

    def forward(self, x):
        return x + x @ self.change

    def penalty(self):
        return self.drift * (self.change**2).sum()


@HEADS.register("mlp")
class MLP(torch.nn.Module):
    """The published study's head: dim -> hidden -> hidden / 2 with a ReLU between, started at
    random.
    """

    keeps_rest = False

    def __init__(self, dim: int, settings: HeadSettings):
        super().__init__()
        wide, narrow = settings.hidden, max(1, settings.hidden // 2)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(dim, wide), torch.nn.ReLU(), torch.nn.Linear(wide, narrow)
        )

    def forward(self, x):
        return self.layers(x)


class Head(torch.nn.Module):
    """Encoder vectors -> unit embeddings whose cosine follows people's grades.

    The steps, each of which a ``Recipe`` has or leaves out:

    - the vectors are normalised, centred by the training images' mean, and normalised again;
    - *whitened*: the directions in which similar pairs differ are damped (``whiten``);
    - a *network* works on the coordinates along `basis` (``spread_basis``); what lies outside of it
      is kept as it is;
    - where classes were given in training, the square roots of the class probabilities of a
      logistic regression stand beside, whose product is the Bhattacharyya coefficient: it makes
      ``settings.class_share`` of the cosine. Classes are known of every training image and so cost
      no pair labels.

    made_of : `encoder`, what made the vectors that the head was trained on, and `vectors`, their
        digest; empty where that is not known
    """

    def __init__(
        self,
        dim: int,
        settings: HeadSettings,
        recipe: Recipe = PLAIN,
        n_classes: int = 0,
        n_damped: int = 0,
        width: int = 0,
    ):
        super().__init__()
        self.dim, self.settings, self.recipe, self.n_classes, self.made_of = (
            dim,
            settings,
            recipe,
            n_classes,
            {},
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("damped", torch.zeros(n_damped, dim))
        self.register_buffer("damping", torch.zeros(n_damped))
        self.register_buffer("basis", torch.zeros(width, dim))
        self.register_buffer("class_weight", torch.zeros(n_classes, dim))
        self.register_buffer("class_bias", torch.zeros(n_classes))
        self.network = (
            HEADS.find(settings.head)(width, settings) if recipe.network and width else None
        )

    @classmethod
    def untrained(
        cls,
        statistics: TrainingStatistics,
        settings: HeadSettings,
        recipe: Recipe,
        similar: tuple[torch.Tensor, torch.Tensor],
    ) -> "Head":
        """A head whose network's weights are drawn at random.

        similar : two (m, dim) tensors, the vectors of the first and of the second image of each
        pair of grade 3"""
        one, two = (centred(vectors, statistics.mean) for vectors in similar)
        directions, damping = whitening(one - two) if recipe.whiten else (one[:0], one[:0, 0])
        basis = statistics.basis if recipe.network else statistics.basis[:0]
        head = cls(
            len(statistics.mean),
            settings,
            recipe,
            len(statistics.class_bias),
            len(directions),
            len(basis),
        )
        buffers = {
            "mean": statistics.mean,
            "damped": directions,
            "damping": damping,
            "basis": basis,
            "class_weight": statistics.class_weight,
            "class_bias": statistics.class_bias,
        }
        for name, value in buffers.items():
            getattr(head, name).copy_(value)
        return head

    def centred(self, vectors: torch.Tensor) -> torch.Tensor:
        """The vectors, (n, dim), as the first step makes them."""
        return centred(vectors, self.mean)

    def whitened(self, x: torch.Tensor) -> torch.Tensor:
        """The network's input, (n, dim) of unit length, of centred vectors; the same where nothing
        is damped.
        """
        return (
            normalize(x + (x @ self.damped.T * self.damping) @ self.damped)
            if len(self.damped)
            else x
        )

    def networks_part(self, x: torch.Tensor) -> torch.Tensor:
        """The embedding without classes, (n, e) of unit length, of whitened vectors."""
        if self.network is None:
            return x
        inside = x @ self.basis.T
        out = self.network(inside)
        return normalize(x + (out - inside) @ self.basis if self.network.keeps_rest else out)

    def beside_classes(self, networks: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The whole embedding, of its part without classes and the centred vectors."""
        if not self.n_classes:
            return networks
        share, classes = (
            self.settings.class_share,
            torch.softmax(x @ self.class_weight.T + self.class_bias, 1).sqrt(),
        )
        return torch.cat([(1 - share) ** 0.5 * networks, share**0.5 * classes], 1)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        x = self.centred(vectors)
        return self.beside_classes(self.networks_part(self.whitened(x)), x)

    def embed(self, vectors: np.ndarray, block: int = 8192) -> np.ndarray:
        """Return unit embeddings (n, e) float32 of encoder vectors (n, dim), `block` rows at a
        time.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(
                f"vectors must be (n_images, {self.dim}), got {vectors.shape}; use this head's "
                "encoder"
            )
        self.eval()
        with torch.inference_mode():
            rows = [
                self(torch.tensor(vectors[at : at + block], dtype=torch.float32))
                for at in range(0, max(1, len(vectors)), block)
            ]
            return torch.cat(rows).numpy()

    def check_fits(self, embeddings: Embeddings) -> None:
        """ValueError where another encoder made these embeddings than those that the head was
        trained on.
        """
        ours, theirs = self.made_of.get("encoder"), embeddings.encoder
        if ours and ours != theirs:
            raise ValueError(
                "the head was trained on vectors of another encoder than these ("
                f"{'; '.join(difference(ours, theirs))}); make the vectors again with the run's "
                "own "
                "(imgsearch embed), or learn anew in another run"
            )

    def _about(self) -> dict:
        return {
            "dim": self.dim,
            "n_classes": self.n_classes,
            "recipe": asdict(self.recipe),
            "settings": self.settings.model_dump(mode="json"),
        }

    @property
    def sha256(self) -> str:
        """Digest of weights and settings: two heads with the same one give the same embeddings."""
        about = json.dumps(self._about(), sort_keys=True)
        return hashlib.sha256(save(self._weights(), {"about": about})).hexdigest()

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.contiguous() for name, tensor in self.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write ``head.safetensors`` and ``config.json`` into `folder` (made by the caller, renamed
        when complete).
        """
        versions = {
            name: importlib.metadata.version(name) for name in ("numpy", "torch", "safetensors")
        }
        # `save_file` would let nobody else read it
        (folder / "head.safetensors").write_bytes(save(self._weights()))
        write_json(
            folder / "config.json", {**self._about(), "made_of": self.made_of, "versions": versions}
        )


def load_head(folder: Path) -> Head:
    """Read a head that ``Head.save`` wrote.

    Raises
    ------
    ValueError
        one line when a file is absent, broken, or when weights and settings do not belong together.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / "config.json", "dim", "settings", "recipe", "n_classes")
        weights = load((folder / "head.safetensors").read_bytes())
        head = Head(
            config["dim"],
            HeadSettings.model_validate(config["settings"]),
            Recipe(**config["recipe"]),
            config["n_classes"],
            len(weights["damped"]),
            len(weights["basis"]),
        )
        head.load_state_dict(weights)
        head.made_of = dict(config.get("made_of", {}))
    except PermissionError:  # another user's: it may be whole
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ValidationError,
        SafetensorError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder} does not hold a head of this package ({reason}); train the round again"
        ) from None
    return head


KEPT[".safetensors"] = (
    lambda head, file: head.save(file.parent),
    lambda file: load_head(file.parent),
)
