"""A backbone that can be trained further: which of its parameters are, and how pictures reach
it.
"""

from dataclasses import dataclass

import torch
from timm.models import group_parameters

from imgsearch_utils.encoders.encoder import DEVICE
from imgsearch_utils.encoders.encoder_names import network_of
from imgsearch_utils.finetuning.tuned_encoder import scale_of


@dataclass(frozen=True)
class Backbone:
    """The network of an encoder, in evaluation mode: batch statistics stay, so that a picture's
    vector is its own.

    base : the encoder's config
    pixels, mean, std : of what the network sees
    trained : names of the parameters that are trained; the others stay
    """

    network: torch.nn.Module
    base: dict
    pixels: int
    mean: list[float]
    std: list[float]
    trained: list[str]

    @classmethod
    def open(
        cls, encoder: str, blocks: int, pixels: int | None = None, device: str = DEVICE
    ) -> "Backbone":
        """The backbone of an encoder by name, its last `blocks` blocks to be trained.

        Raises
        ------
        ValueError for an unknown encoder, weights that are not at hand, and a network that does not
            take so many pixels.
        """
        network, base = network_of(encoder)
        own, mean, std = scale_of(base)
        pixels, network = pixels or own, network.to(device)
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, pixels, pixels, device=device))
        except (AssertionError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise ValueError(
                f"pixels: {encoder} does not take {pixels} ({reason}); its own size is {own}"
            ) from None
        trained = _last_blocks(network, blocks)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)
        names = [name for name, _ in network.named_parameters() if name in trained]
        return cls(network, base, pixels, mean, std, names)

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Those that are trained, by name."""
        every = dict(self.network.named_parameters())
        return {name: every[name] for name in self.trained}

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the trained parameters as they are now."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def go_back(self, before: dict[str, torch.Tensor], share: float) -> None:
        """Keep a share of the way from other weights (of ``weights``) to those that it has now; of
        0, take the others.
        """
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(torch.lerp(before[name].to(parameter.device), parameter, share))


def _last_blocks(network: torch.nn.Module, blocks: int) -> set[str]:
    """Names of the parameters of the last blocks, as timm or open_clip cut their networks into
    blocks.
    """
    if tower := getattr(network, "model", None):  # of open_clip
        for parameter in tower.parameters():
            parameter.requires_grad_(True)
        tower.lock_image_tower(unlocked_groups=blocks, freeze_bn_stats=True)
        return {
            name
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and name.startswith("model.visual.")
        }
    groups = group_parameters(network, network.group_matcher(coarse=False))
    last = sorted(groups)[-blocks:]
    return {name for number in last for name in groups[number]}
