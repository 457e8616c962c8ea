"""Pictures on their way to a network that is trained: decoded once, then augmented anew each
time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import v2

from imgsearch_utils.finetuning.finetuning_settings import Finetuning
from imgsearch_utils.finetuning.tuned_encoder import MARGIN, as_tensor, middle, square
from imgsearch_utils.images.decoding import middle_of_strip, open_image

MOST_BYTES = 8_000_000_000
ENCODED_AT_ONCE = 64


def read_squares(paths: Sequence[Path], pixels: int, progress: Callable = iter) -> np.ndarray:
    """The middles of pictures, decoded: (n, side, side, 3) uint8, `side` a little more than
    `pixels`.

    Raises
    ------
    ValueError
        for a picture that cannot be read, and for more than 8 GB of them.
    """
    if (size := len(paths) * 3 * (pixels / MARGIN) ** 2) > MOST_BYTES:
        raise ValueError(
            f"{len(paths):,} pictures of {pixels} pixels take {size / 1e9:.0f} GB of memory, and "
            f"at most {MOST_BYTES / 1e9:.0f} are taken; set fewer pixels"
        )
    return np.stack(
        [np.asarray(square(middle_of_strip(open_image(path)), pixels)) for path in progress(paths)]
    )


def augmentation(settings: Finetuning, pixels: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is done to a square (3, side, side) uint8 at random: (3, pixels, pixels) uint8."""
    steps = [
        v2.RandomResizedCrop(pixels, scale=(0.5, 1.0), ratio=(0.8, 1.25), antialias=True)
        if "crop" in settings.augment
        else v2.CenterCrop(pixels)
    ]
    if "flip" in settings.augment:
        steps.append(v2.RandomHorizontalFlip())
    if "trivial" in settings.augment:  # Mueller & Hutter, TrivialAugment, ICCV 2021
        steps.append(v2.TrivialAugmentWide())
    return v2.Compose(steps)


class Pictures(torch.utils.data.Dataset):
    """Squares by (epoch, row), augmented: the same picture at the same time is always changed
    alike.

    So a training that goes on after it was killed sees what it would have seen.
    """

    def __init__(self, squares: np.ndarray, settings: Finetuning, pixels: int):
        self.squares, self.settings = squares, settings
        self._augment = augmentation(settings, pixels)

    def __getitem__(self, at: tuple[int, int]) -> torch.Tensor:
        epoch, row = at
        picture = as_tensor(self.squares[row][None])[0]
        if not self.settings.augment:
            return self._augment(picture)
        seed = np.random.SeedSequence([self.settings.seed, epoch, int(row)]).generate_state(1)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            return self._augment(picture)


def encode(
    network: torch.nn.Module, squares: np.ndarray, pixels: int, mean: list[float], std: list[float]
) -> np.ndarray:
    """Vectors (n, d) of squares, without augmentation."""
    device, rows = next(network.parameters()).device, []
    with torch.inference_mode():
        for at in range(0, len(squares), ENCODED_AT_ONCE):
            seen = middle(as_tensor(squares[at : at + ENCODED_AT_ONCE]), pixels, mean, std)
            rows.append(network(seen.to(device)).float().cpu().numpy())
    return np.concatenate(rows)
