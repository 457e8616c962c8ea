"""A run's encoder without torch: the network as the ONNX graph that encoded its pictures, kept
beside their vectors.

Importing torch and building the network take longer than all else in a search for one picture.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgsearch_utils.images.decoding import middle_of_strip
from imgsearch_utils.workspace import digest, read_json, replace_folder, write_json

BULK = 64  # for fewer pictures, starting the network for many files takes longer than it saves
GRAPH, ABOUT = "network.onnx", "network.json"
# prepared by Pillow alone; pixels, side of the input
LITE = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}


def lite_pixels(picture: Image.Image, side: int) -> np.ndarray:
    """The input (3, side, side) float32 of an EfficientNet-Lite: scaled, centre crop of 7/8, (x -
    127) / 128.

    As torchvision's ``Resize`` (bicubic) and ``CenterCrop`` do, for which torch would be loaded.
    """
    short, (width, height) = round(side / 0.875), picture.size
    scaled = (
        (short, int(short * height / width))
        if width <= height
        else (int(short * width / height), short)
    )
    left, top = (round((length - side) / 2) for length in scaled)
    fit = picture.resize(scaled, Image.Resampling.BICUBIC).crop(
        (left, top, left + side, top + side)
    )
    pixels = np.asarray(fit).transpose(2, 0, 1).astype(np.float32, "C")
    pixels -= 127
    pixels /= 128
    return pixels


@dataclass(frozen=True)
class KeptEncoder:
    """An encoder for queries; the same vectors as the encoder's that the graph is of.

    session : onnxruntime's, for one picture at a time
    """

    config: dict
    session: Any
    encode_texts = None

    def encode_images(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Encode decoded pictures: (n, dim) float32, not normalised."""
        side = LITE[self.config["encoder"]]
        inputs = (lite_pixels(middle_of_strip(picture), side)[None] for picture in pictures)
        return np.concatenate(
            [self.session.run(None, {"pictures": pixels})[0] for pixels in inputs]
        )


def onnx_session(graph: bytes, batch: int, threads: int):
    """An onnxruntime session for batches of exactly `batch`: knowing that, it is a third faster."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("n", batch)
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def keep(folder: Path, config: dict, graph: Callable[[], bytes | None]) -> None:
    """Keep the graph of an encoder with this configuration, where it can be opened again and is not
    there yet.
    """
    if config["encoder"] in LITE and open_kept(folder, config) is None and (content := graph()):
        with replace_folder(folder) as partial:
            (partial / GRAPH).write_bytes(content)
            write_json(partial / ABOUT, {"config": config, "sha256": digest(partial / GRAPH)})


def open_kept(folder: Path, config: dict) -> KeptEncoder | None:
    """The kept encoder of vectors with this configuration; None where it is not there, is another,
    or may not be used.

    Another: its configuration or its content is not what was kept. It may not be used where
    onnxruntime is not installed, or IMGSEARCH_BACKEND says torch."""
    usable = (
        importlib.util.find_spec("onnxruntime")
        and os.environ.get("IMGSEARCH_BACKEND", "auto") != "torch"
    )
    if not usable or not (folder / ABOUT).is_file():
        return None
    about = read_json(folder / ABOUT, "config", "sha256")
    if about["config"] != config or digest(folder / GRAPH) != about["sha256"]:
        return None
    return KeptEncoder(config, onnx_session((folder / GRAPH).read_bytes(), 1, 1))
