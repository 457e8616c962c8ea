"""Encoders that this workspace fine-tuned: ``tuned:<run>/<version>``, a backbone with other
weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import v2

from imgsearch_utils.encoders.encoder import Encoder
from imgsearch_utils.encoders.encoder_names import ENCODERS, network_of, ready_for_use
from imgsearch_utils.encoders.onnx_encoder import LITE
from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import read_json, tuned_stage, tuned_versions

MARGIN = 0.875  # of a picture's shorter side that the network sees
WEIGHTS, ABOUT = "weights.safetensors", "config.json"


def scale_of(base: dict[str, Any]) -> tuple[int, list[float], list[float]]:
    """Pixels of the side, and mean and standard deviation of the colours, that a backbone expects,
    by its config.
    """
    how = base["preprocessing"]
    if side := LITE.get(base["encoder"]):  # ``lite_pixels``: (x - 127) / 128
        return side, [127 / 255] * 3, [128 / 255] * 3
    size = how.get("input_size", how.get("size"))
    side = size if isinstance(size, int) else size[-1]
    return int(side), list(how["mean"]), list(how["std"])


def square(picture: Image.Image, pixels: int) -> Image.Image:
    """The middle of a picture, a little larger than the network sees: (pixels / ``MARGIN``) on each
    side.
    """
    side = round(pixels / MARGIN)
    scale = side / min(picture.size)
    size = [max(side, round(length * scale)) for length in picture.size]
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = ((length - side) // 2 for length in size)
    return picture.crop((left, top, left + side, top + side))


def as_tensor(squares: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures (n, side, side, 3) uint8 -> (n, 3, side, side) uint8."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(squares))).permute(0, 3, 1, 2)


def middle(
    pictures: torch.Tensor, pixels: int, mean: list[float], std: list[float]
) -> torch.Tensor:
    """What the network sees of squares (n, 3, side, side) uint8, without augmentation: (n, 3,
    pixels, pixels).
    """
    return v2.functional.normalize(
        v2.functional.center_crop(pictures, [pixels, pixels]).float() / 255, mean, std
    )


@ENCODERS.register("tuned:")
def tuned_encoder(rest: str) -> Encoder:
    """The encoder ``tuned:<run>/<version>``, what ``imgsearch finetune`` made.

    rest : ``<run>/<version>``

    Raises
    ------
    ValueError
        for a version that is not there, was changed since, or whose backbone is another one here.
    """
    run, _, version = rest.partition("/")
    if not run or not version or ".." in Path(rest).parts or len(Path(rest).parts) != 2:
        raise ValueError(f"tuned:{rest}: expected tuned:<run>/<version>")
    if version not in (known := tuned_versions(run)):
        raise ValueError(
            f"run {run} has no fine-tuned version {version}. "
            + (nearest(version, known) if known else "Make one: imgsearch finetune CONFIG")
        )
    stage = tuned_stage(run, version)
    stage.check(f"model/{WEIGHTS}", f"model/{ABOUT}")
    about = read_json(stage.folders["model"] / ABOUT, "base", "pixels", "settings")
    if not (stage.folders["model"] / WEIGHTS).is_file():
        raise ValueError(
            f"the weights of tuned:{rest} are not here (a published run is kept without them); "
            "make a "
            "version of your own: imgsearch finetune CONFIG"
        )
    network, base = network_of(about["settings"]["encoder"])
    if base["weights"] != about["base"]["weights"]:
        raise ValueError(
            f"tuned:{rest} was made of other weights of {base['encoder']} than stand here "
            f"({about['base']['weights']} -> {base['weights']})"
        )
    network.load_state_dict(load_file(stage.folders["model"] / WEIGHTS))
    _, mean, std = scale_of(base)
    pixels = about["pixels"]

    def transform(picture: Image.Image) -> torch.Tensor:
        return middle(as_tensor([np.asarray(square(picture, pixels))]), pixels, mean, std)[0]

    config = {
        "encoder": f"tuned:{rest}",
        "weights": stage.recorded()["files"][f"model/{WEIGHTS}"],
        "preprocessing": {"pixels": pixels, "margin": MARGIN, "mean": mean, "std": std},
    }
    return Encoder(transform, ready_for_use(network), config)
