"""The training of a backbone, step by step; killed at any moment and started again, it ends with
the same weights.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning import distances, losses, miners
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

    def end_epoch(self, rate: float, validation: float) -> None:
        """Add a row to the curve, and begin the next epoch."""
        self.epoch += 1
        row = {"loss": self.loss / self.images, "learning_rate": rate, "validation": validation}
        self.history.append({"epoch": self.epoch, **row, "images": self.images})
        if validation > self.history[self.best_epoch]["validation"]:
            self.best_epoch = self.epoch
        self.step, self.loss, self.images = 0, 0.0, 0


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
    for label in np.unique(lessons.classes):
        members = rng.permutation(np.flatnonzero(lessons.classes == label))
        if len(members) > 1:  # one of its own has nothing to be like
            chunks += np.array_split(members, max(1, len(members) // settings.per_class))
    batches, batch = [], np.array([], int)
    for number in rng.permutation(len(chunks)):
        batch = np.concatenate([batch, chunks[number]])
        # a batch of one class has no negatives, so it grows on
        if len(batch) >= settings.batch and len(np.unique(lessons.classes[batch])) > 1:
            batches.append(batch)
            batch = batch[:0]
    return [*batches, batch] if len(np.unique(lessons.classes[batch])) > 1 else batches


class Objective(torch.nn.Module):
    """The loss of a batch: of its triplets, or of its graded pairs.

    Triplets: Schroff, Kalenichenko & Philbin, FaceNet, CVPR 2015, on the cosine, semi-hard
    negatives."""

    def __init__(self, settings: Finetuning):
        super().__init__()
        margin, cosine = settings.margin, distances.CosineSimilarity()
        self.triplets = losses.TripletMarginLoss(margin=margin, distance=cosine)
        self.miner = miners.TripletMarginMiner(margin, "semihard", distance=cosine)
        if settings.learn_from == "grades":
            self.graded = LOSSES.find(settings.loss)(HeadSettings())

    def forward(
        self, vectors: torch.Tensor, lessons: TrainingData, batch: np.ndarray
    ) -> torch.Tensor:
        """vectors : of the batch's pictures, in the order of ``_rows_of``"""
        if lessons.pairs is None:
            classes = torch.from_numpy(lessons.classes[batch]).to(vectors.device)
            return self.triplets(vectors, classes, self.miner(vectors, classes))
        pairs = lessons.pairs[batch]
        there = np.unique(pairs[:, :2])
        i, j = (torch.from_numpy(np.searchsorted(there, pairs[:, end])) for end in (0, 1))
        unit = torch.nn.functional.normalize(vectors).cpu()  # the losses hold their settings there
        return self.graded((unit[i] * unit[j]).sum(1), i, j, torch.from_numpy(pairs[:, 2]))


def _rows_of(lessons: TrainingData, batch: np.ndarray) -> np.ndarray:
    """The rows of the squares that a batch needs."""
    if lessons.pairs is None:
        return lessons.rows[batch]
    return lessons.rows[np.unique(lessons.pairs[batch, :2])]


def _batches_from(
    state: State,
    squares: np.ndarray,
    lessons: TrainingData,
    settings: Finetuning,
    backbone: Backbone,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """All batches that are left, one epoch after the other, with their pictures on the device."""
    batches = [
        (epoch, batch)
        for epoch in range(state.epoch, settings.epochs)
        for batch in batches_of(lessons, settings, epoch)
    ][state.step :]
    loader = torch.utils.data.DataLoader(
        Pictures(squares, settings, backbone.pixels),
        batch_sampler=[
            [(epoch, row) for row in _rows_of(lessons, batch)] for epoch, batch in batches
        ],
        num_workers=WORKERS if device.type == "cuda" else 0,
    )
    for (_, batch), pictures in zip(batches, loader):
        pictures = pictures.to(device, memory_format=torch.channels_last).float() / 255
        yield batch, v2.functional.normalize(pictures, backbone.mean, backbone.std)


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
    squares : (n, side, side, 3) uint8, as of ``augmentation.read_squares``
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
    parameters, objective = backbone.parameters, Objective(settings).to(device)
    # some losses have parameters of their own
    trained = parameters | {f"objective.{n}": each for n, each in objective.named_parameters()}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = [len(batches_of(lessons, settings, epoch)) for epoch in range(settings.epochs)]
    if not all(steps):
        raise ValueError(
            "nothing can be learnt: it takes two classes with two training pictures each, or "
            "graded pairs"
        )
    state, best = State(), backbone.weights()
    if checkpoint.is_file():
        state, best = _restore(checkpoint, identity, trained, optimizer)
        say(f"goes on at epoch {state.epoch + 1}, step {state.step + 1}")
    if not state.history:
        state.history.append({"epoch": 0, "validation": validate(), "images": 0})
    stream = _batches_from(state, squares, lessons, settings, backbone, device)
    saved = time.monotonic()
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        for batch, pictures in itertools.islice(stream, steps[state.epoch] - state.step):
            rate = _rate(sum(steps[: state.epoch]) + state.step, sum(steps), settings)
            with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                vectors = backbone.network(pictures)
            loss = objective(vectors.float(), lessons, batch)
            if not torch.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss.item()} in epoch {state.epoch + 1}; set a smaller "
                    "learning_rate"
                )
            with _same_each_time(device):
                loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            state.step += 1
            state.loss += loss.item() * len(pictures)
            state.images += len(pictures)
            if time.monotonic() - saved > EVERY and state.step < steps[state.epoch]:
                _save(checkpoint, identity, state, trained, optimizer, best)
                saved = time.monotonic()
        state.end_epoch(rate, validate())
        if state.best_epoch == state.epoch:
            best = backbone.weights()
        _save(checkpoint, identity, state, trained, optimizer, best)
        saved = time.monotonic()
        last = state.history[-1]
        say(
            f"epoch {state.epoch} of {settings.epochs}: loss {last['loss']:.4f}, "
            f"mAP {last['validation']:.3f} (best: epoch {state.best_epoch})"
        )
    backbone.go_back(best, 0)
    columns = ["epoch", "loss", "learning_rate", "validation", "images"]
    table = pd.DataFrame(state.history, columns=columns)
    return table.assign(best=table.epoch == state.best_epoch)


def _rate(step: int, total: int, settings: Finetuning) -> float:
    """The learning rate of a step: up in a straight line, then down by a cosine (Loshchilov &
    Hutter, ICLR 2017).
    """
    warm = settings.warmup * total
    if step < warm:
        return settings.learning_rate * (step + 1) / max(1, warm)
    done = (step - warm) / max(1, total - warm)
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _save(
    file: Path,
    identity: str,
    state: State,
    trained: dict,
    optimizer: torch.optim.Optimizer,
    best: dict,
) -> None:
    """Everything in one file, which is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "identity": identity,
        "state": vars(state),
        "trained": {name: parameter.detach() for name, parameter in trained.items()},
        "optimizer": optimizer.state_dict(),
        "best": best,
    }
    with atomic_path(file) as partial:
        torch.save(kept, partial)


def _restore(
    file: Path, identity: str, trained: dict, optimizer: torch.optim.Optimizer
) -> tuple[State, dict]:
    """Where the training stands, and its best weights; parameters and optimizer are set."""
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True)
        if kept["identity"] != identity:
            raise ValueError("it is of other settings, pictures or grades")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(kept["trained"][name])
        optimizer.load_state_dict(kept["optimizer"])
        return State(**kept["state"]), kept["best"]
    except Exception as error:  # a broken file raises errors of many kinds
        raise ValueError(
            f"{file}: not a checkpoint of this training ({' '.join(str(error).split())[:120]}); "
            "remove it to begin anew"
        ) from None
