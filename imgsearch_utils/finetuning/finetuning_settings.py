"""The settings of a fine-tuning, and the grid of them that one YAML describes."""

import itertools
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from imgsearch_utils.study import Settings, explain_settings, read_yaml

MOST_VERSIONS = 100  # of a grid
Augmentation = Literal["crop", "flip", "trivial"]


class Finetuning(Settings):
    """How a backbone is trained further.

    study, run : whose pictures, classes, splits and grades
    version : its name; the versions of a grid are called <version>-1, <version>-2, ...
    encoder : by name, as of ``encoders.get_encoder``
    pixels : of the side that the network sees; its own when not given
    blocks : so many of its last blocks are trained; more than there are, and all of it is
    learn_from : "classes" (the finest), by triplets with semi-hard mining; or "grades", graded
        train pairs, by `loss`
    loss : a loss of ``learning.losses`` on graded pairs
    margin : of the triplets, in cosine
    augment : what is done to train pictures: random crops, mirroring, TrivialAugmentWide
    batch, per_class : pictures a step, and of each class among them
    warmup : share of the steps in which the learning rate rises; then it falls to 0 by a cosine
    patience : epochs without a better mAP on the validation images, after which it ends
    share : of the way from the frozen weights to the tuned ones, that is kept in the end; half of
        it finds more of classes that it never saw (Wortsman et al., Robust Fine-Tuning of Zero-Shot
        Models, CVPR 2022; notebook 14)
    held_out_classes : share of the classes that are held out whole, to measure on; half as many
    more validate"""

    study: str
    run: str = ""
    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)] = "tuned"
    encoder: str = "efficientnet_lite0"
    pixels: Annotated[int, Field(ge=32, le=1024)] | None = None
    blocks: Annotated[int, Field(ge=1, le=1000)] = 2
    learn_from: Literal["classes", "grades"] = "classes"
    loss: str = "graded_mse"
    margin: Annotated[float, Field(gt=0, le=2)] = 0.2
    augment: tuple[Augmentation, ...] = ("crop", "flip", "trivial")
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 12
    batch: Annotated[int, Field(ge=4, le=4096)] = 32
    per_class: Annotated[int, Field(ge=2, le=64)] = 4
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 1e-2
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=1, le=10_000)] = 5
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    held_out_classes: Annotated[float, Field(ge=0, le=0.6)] = 0.0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0

    @model_validator(mode="after")
    def _whole_classes_in_a_batch(self):
        if self.batch < 2 * self.per_class:
            raise ValueError(
                f"batch must hold two classes: at least 2 x per_class = {2 * self.per_class}"
            )
        return self


def read_settings(path: Path) -> list[Finetuning]:
    """The versions that a YAML describes: one, or with `grid` (setting -> values) one for each
    combination.

    Raises
    ------
    ValueError
        naming the setting, what was expected and what was given.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    grid = values.pop("grid", {})
    lists = isinstance(grid, dict) and all(
        isinstance(choices, list) and choices for choices in grid.values()
    )
    if not lists:
        raise ValueError(
            f"{path}: grid: expected setting: [value, value, ...], got {str(grid)[:100]}"
        )
    if odd := {"version", "study", "run"} & {*grid}:
        raise ValueError(f"{path}: grid: {sorted(odd)[0]} cannot vary")
    # counted before any is made: a grid may be astronomically large
    n_combinations = math.prod(map(len, grid.values()))
    if n_combinations > MOST_VERSIONS:
        raise ValueError(
            f"{path}: grid: {n_combinations} combinations are too many; at most {MOST_VERSIONS}"
        )
    versions = []
    for number, combination in enumerate(itertools.product(*grid.values()), 1):
        version = values | dict(zip(grid, combination))
        if grid:
            version["version"] = f"{values.get('version', 'tuned')}-{number}"
        try:
            versions.append(Finetuning.model_validate(version))
        except ValidationError as error:
            explained = explain_settings(error, str(path), Finetuning)
            raise ValueError(" ".join(explained.split())) from None
    return versions
