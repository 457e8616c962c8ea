"""The training of a backbone, step by step; killed at any moment and started again, it ends with
the same weights.
"""

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning import distances, losses, miners
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.transforms import v2

from imgsearch_utils.finetuning.augmentation import Pictures
from imgsearch_utils.finetuning.backbone import Backbone
from imgsearch_utils.finetuning.finetuning_settings import Finetuning
from imgsearch_utils.learning.losses import LOSSES
from imgsearch_utils.study import HeadSettings
from imgsearch_utils.workspace import atomic_path

EVERY = 30  # seconds between two checkpoints
# processes that augment pictures for a GPU; on a processor the training itself needs all cores
WORKERS = 6


@dataclass(frozen=True)
class TrainingData:
    """What is learnt from: rows of the squares, and what is known of them.

    rows : (n,) of the training pictures
    classes : (n,) int, their classes
    pairs : (m, 3) int: two positions in `rows` and a grade, where grades are learnt from
    """

    rows: np.ndarray
    classes: np.ndarray
    pairs: np.ndarray | None = None


@dataclass
class State:
    """Where a training stands: the next epoch and step, the loss over this epoch's images so far,
    the curve.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    images: int = 0
    best_epoch: int = 0
    history: list[dict] = field(default_factory=list)


def batches_of(lessons: TrainingData, settings: Finetuning, epoch: int) -> list[np.ndarray]:
    """The batches of an epoch: positions of pictures, `per_class` of each of two classes or more;
    or rows of pairs.

    They follow from the seed and the epoch alone.
    """
    rng = np.random.default_rng([settings.seed, epoch])
    if lessons.pairs is not None:
        order, size = rng.permutation(len(lessons.pairs)), settings.batch // 2
        return [order[at : at + size] for at in range(0, len(order), size)]
    chunks = []
    for one in np.unique(lessons.classes):
        members = rng.permutation(np.flatnonzero(lessons.classes == one))
        if len(members) > 1:  # one of its own has nothing to be like
            parts = np.array_split(members, max(1, len(members) // settings.per_class))
            chunks += [(one, part) for part in parts]
    chunks = [chunks[at] for at in rng.permutation(len(chunks))]
    found, now = [], []
    for one, part in chunks:
        now.append((one, part))
        if sum(len(each) for _, each in now) >= settings.batch and len({one for one, _ in now}) > 1:
            found.append(now)
            now = []
    if len({one for one, _ in now}) > 1:
        found.append(now)
    return [np.concatenate([part for _, part in batch]) for batch in found]


class Objective(torch.nn.Module):
    """The loss of a batch, and what is trained beside the network for it.

    Triplets: Schroff, Kalenichenko & Philbin, FaceNet, CVPR 2015, on the cosine, semi-hard
    negatives."""

    def __init__(self, settings: Finetuning, dim: int, n_classes: int):
        super().__init__()
        self.settings, cosine = settings, distances.CosineSimilarity()
        self.head = torch.nn.Linear(dim, n_classes) if settings.class_head else None
        if settings.learn_from == "grades":
            self.graded = LOSSES.find(settings.loss)(HeadSettings())
        self.triplets = losses.TripletMarginLoss(margin=settings.margin, distance=cosine)
        self.miner = miners.TripletMarginMiner(
            margin=settings.margin, type_of_triplets="semihard", distance=cosine
        )

    def of_classes(self, vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        loss = self.triplets(vectors, classes, self.miner(vectors, classes))
        if self.head is not None:
            unit = torch.nn.functional.normalize(vectors)
            loss = loss + self.settings.class_head * torch.nn.functional.cross_entropy(
                16 * self.head(unit), classes
            )
        return loss

    def of_pairs(self, vectors: torch.Tensor, i, j, grades) -> torch.Tensor:
        unit = torch.nn.functional.normalize(vectors).cpu()  # the losses hold their settings there
        return self.graded((unit[i] * unit[j]).sum(1), i, j, grades)


@contextlib.contextmanager
def _same_each_time(device: torch.device) -> Iterator[None]:
    """Sums of several threads in one order, where torch has a way to; on a GPU it has not for
    all.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def train(
    backbone: Backbone,
    squares: np.ndarray,
    lessons: TrainingData,
    settings: Finetuning,
    validate: Callable[[], float],
    checkpoint: Path,
    identity: str = "",
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train a backbone in place; it ends with the weights of its best epoch by `validate`.

    Parameters
    ----------
    squares : (n, side, side, 3) uint8, as of ``pictures.read_squares``
    validate : the mean average precision of the backbone as it is now, on images that it does not
        learn from
    checkpoint : a file; where it is there, the training goes on from it
    identity : of what is learnt; a checkpoint of another one is refused

    Returns
    -------
    epoch (0: before), loss, learning_rate, validation, images (seen), best (whether its weights are
    kept)

    Raises
    ------
    ValueError where there are no two classes of two pictures, for a loss that is no finite number,
        and a foreign checkpoint.
    """
    torch.manual_seed(settings.seed)
    device = next(backbone.network.parameters()).device
    parameters = backbone.parameters
    with torch.inference_mode():
        dim = backbone.network(
            torch.zeros(1, 3, backbone.pixels, backbone.pixels, device=device)
        ).shape[1]
    objective = Objective(settings, dim, int(lessons.classes.max()) + 1).to(device)
    trained = {
        **parameters,
        **{f"objective.{name}": each for name, each in objective.named_parameters()},
    }
    optimizer = torch.optim.AdamW(
        list(trained.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = [len(batches_of(lessons, settings, epoch)) for epoch in range(settings.epochs)]
    if not all(steps):
        raise ValueError(
            "nothing can be learnt: it takes two classes with two training pictures each, or "
            "graded pairs"
        )
    state, best = State(), backbone.weights()
    if checkpoint.is_file():
        state, best = _restore(checkpoint, identity, trained, optimizer, best)
        say(f"goes on at epoch {state.epoch + 1}, step {state.step + 1}")
    if not state.history:
        state.history.append({"epoch": 0, "validation": validate(), "images": 0})
    loader, saved = _Loader(squares, lessons, settings, backbone, device), time.monotonic()
    stream = loader.from_here(state)
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        for batch, pictures in itertools.islice(stream, steps[state.epoch] - state.step):
            rate = _rate(sum(steps[: state.epoch]) + state.step, sum(steps), settings)
            with _mixed(device):
                vectors = backbone.network(pictures)
            loss = loader.loss(objective, vectors.float(), batch)
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss.item()} in epoch {state.epoch + 1}; set a smaller "
                    "learning_rate"
                )
            with _same_each_time(device):
                (loss / settings.accumulate).backward()
            state.step += 1
            state.loss, state.images = (
                state.loss + loss.item() * len(pictures),
                state.images + len(pictures),
            )
            if state.step % settings.accumulate and state.step < steps[state.epoch]:
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            if time.monotonic() - saved > EVERY and state.step < steps[state.epoch]:
                _save(checkpoint, identity, state, trained, optimizer, best)
                saved = time.monotonic()
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "loss": state.loss / state.images,
                "learning_rate": rate,
                "validation": validate(),
                "images": state.images,
            }
        )
        state.epoch, state.step, state.loss, state.images = state.epoch + 1, 0, 0.0, 0
        if state.history[-1]["validation"] > state.history[state.best_epoch]["validation"]:
            state.best_epoch, best = state.epoch, backbone.weights()
        _save(checkpoint, identity, state, trained, optimizer, best)
        saved = time.monotonic()
        say(
            "epoch {epoch} of {of}: loss {loss:.4f}, mAP {validation:.3f}".format(
                of=settings.epochs, **state.history[-1]
            )
            + f" (best: epoch {state.best_epoch})"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best[name])
    table = pd.DataFrame(
        state.history, columns=["epoch", "loss", "learning_rate", "validation", "images"]
    )
    return table.assign(best=table.epoch == state.best_epoch)


def _rate(step: int, total: int, settings: Finetuning) -> float:
    """The learning rate of a step: up in a straight line, then down by a cosine (Loshchilov &
    Hutter, ICLR 2017).
    """
    warm = settings.warmup * total
    if step < warm:
        return settings.learning_rate * (step + 1) / warm if warm >= 1 else settings.learning_rate
    return (
        settings.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))) / 2
    )


def _mixed(device: torch.device):
    return (
        torch.autocast("cuda", torch.bfloat16)
        if device.type == "cuda"
        else contextlib.nullcontext()
    )


class _Loader:
    """The batches with their pictures, on the device; and the loss of one of them."""

    def __init__(self, squares, lessons, settings, backbone, device):
        self._pictures = Pictures(squares, settings, backbone.pixels)
        self._lessons, self._settings, self._backbone, self._device = (
            lessons,
            settings,
            backbone,
            device,
        )

    def from_here(self, state: State) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """All batches that are left, one epoch after the other."""
        batches = [
            (epoch, batch)
            for epoch in range(state.epoch, self._settings.epochs)
            for batch in batches_of(self._lessons, self._settings, epoch)[
                state.step * (epoch == state.epoch) :
            ]
        ]
        asked = [[(epoch, row) for row in self._rows(batch)] for epoch, batch in batches]
        workers = WORKERS if self._device.type == "cuda" else 0
        loader = torch.utils.data.DataLoader(
            self._pictures, batch_sampler=asked, num_workers=workers
        )
        for (_, batch), pictures in zip(batches, loader):
            pictures = pictures.to(self._device, memory_format=torch.channels_last)
            yield (
                batch,
                v2.functional.normalize(
                    pictures.float() / 255, self._backbone.mean, self._backbone.std
                ),
            )

    def _rows(self, batch: np.ndarray) -> np.ndarray:
        if self._lessons.pairs is None:
            return self._lessons.rows[batch]
        return self._lessons.rows[np.unique(self._lessons.pairs[batch, :2])]

    def loss(self, objective: Objective, vectors: torch.Tensor, batch: np.ndarray) -> torch.Tensor:
        if self._lessons.pairs is None:
            return objective.of_classes(
                vectors, torch.from_numpy(self._lessons.classes[batch]).to(vectors.device)
            )
        pairs = self._lessons.pairs[batch]
        there = np.unique(pairs[:, :2])
        i, j = (torch.from_numpy(np.searchsorted(there, pairs[:, side])) for side in (0, 1))
        return objective.of_pairs(vectors, i, j, torch.from_numpy(pairs[:, 2]))


def _save(
    file: Path,
    identity: str,
    state: State,
    trained: dict,
    optimizer: torch.optim.Optimizer,
    best: dict,
) -> None:
    """Everything in one file, which is there whole or not at all."""
    tensors = {f"now.{name}": parameter.detach().cpu() for name, parameter in trained.items()}
    tensors |= {f"best.{name}": weights.cpu() for name, weights in best.items()}
    for name, parameter in trained.items():
        tensors |= {
            f"adam.{name}.{key}": value.cpu() for key, value in optimizer.state[parameter].items()
        }
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as partial:
        save_file(
            {name: value.clone().contiguous() for name, value in tensors.items()},
            partial,
            {"state": json.dumps(vars(state)), "identity": identity},
        )


def _restore(
    file: Path, identity: str, trained: dict, optimizer: torch.optim.Optimizer, best: dict
) -> tuple[State, dict]:
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata()
            if about["identity"] != identity:
                raise ValueError("it is of other settings, pictures or grades")
            state = State(**json.loads(about["state"]))
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  no mapping
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(tensors[f"now.{name}"])
                start = f"adam.{name}."
                optimizer.state[parameter] = {
                    key.removeprefix(start): value
                    if key.endswith(".step")
                    else value.to(parameter.device)
                    for key, value in tensors.items()
                    if key.startswith(start)
                }
        return state, {name: tensors[f"best.{name}"].to(trained[name].device) for name in best}
    except Exception as error:  # the reader of safetensors raises its own kinds
        raise ValueError(
            f"{file}: not a checkpoint of this training ({' '.join(str(error).split())[:120]}); "
            "remove it "
            "to begin anew"
        ) from None
