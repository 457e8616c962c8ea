"""A drawn house in its surroundings, and a folder full of them."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from tqdm.auto import tqdm

from imgsearch_utils.synthetic_houses import scenery
from imgsearch_utils.synthetic_houses.attributes import sample_houses
from imgsearch_utils.synthetic_houses.building import Plan, draw_building
from imgsearch_utils.synthetic_houses.canvas import Camera, Canvas

_TINTS = {"morning": (0.92, 0.97, 1.04), "noon": (1.04, 1.03, 1.0), "sunset": (1.08, 0.84, 0.68), "night": (0.34, 0.4, 0.6)}
_JPEG_QUALITY = {"sharp": 92, "soft": 88, "noisy": 80, "compressed": 22}


def _camera(house: Mapping, plan: Plan, rng: np.random.Generator, size: int) -> Camera:
    """Stand where the whole house fits."""
    yaw = np.radians(abs(house["camera_yaw"]))
    across = (plan.width + plan.wing) * np.cos(yaw) + plan.depth * np.sin(yaw)
    distance = 1.35 * max(across / 0.86, (plan.top + 1) / 0.66, 9.0) / house["camera_zoom"] + plan.depth / 2
    shift = -0.5 * plan.wing * plan.garage_side * np.cos(yaw) * 1.35 / distance
    centre = (0.5 + shift + rng.uniform(-0.05, 0.05), rng.uniform(0.66, 0.72))
    return Camera(house["camera_yaw"], house["camera_height"], distance, plan.depth / 2, size, centre)


def draw_house(house: Mapping, size: int = 256) -> Image.Image:
    """Draw one house: a `size` x `size` RGB picture, decided by the row of `sample_houses` alone.

    The picture is drawn at twice the size and halved, then given its lack of quality (softness or noise; what
    compression does is left to `write_houses`).
    """
    rng = np.random.default_rng(int(house["detail_seed"]))
    plan = Plan(house, rng)
    camera = _camera(house, plan, rng, 2 * size)
    night, snow = house["time_of_day"] == "night", house["season"] == "winter"
    canvas = Canvas(camera, _TINTS[house["time_of_day"]], sun_right=rng.random() < 0.5)
    scenery.draw_sky(canvas, house, rng)
    scenery.draw_background(canvas, house, rng)
    scenery.draw_ground(canvas, house, plan, rng)
    scenery.draw_planting(canvas, house, plan, rng, behind=True)
    smoke = draw_building(canvas, plan, snow, night, rng)
    scenery.draw_planting(canvas, house, plan, rng, behind=False)
    scenery.draw_traffic(canvas, house, plan, rng)
    scenery.draw_air(canvas, house, smoke, rng)
    picture = canvas.image.reduce(2)
    if house["image_quality"] == "soft":
        return picture.filter(ImageFilter.GaussianBlur(size / 220))
    if house["image_quality"] == "noisy":
        noise = rng.normal(0, 14, (size, size, 3)).astype(np.float32)
        return Image.fromarray(np.clip(np.asarray(picture, np.float32) + noise, 0, 255).astype(np.uint8))
    return picture


def write_houses(folder: Path, per_type: int, seed: int = 0) -> None:
    """Write a data set: ``all_images/*.jpg``, ``labels.csv`` (file_label, house_type) and ``attributes.csv``.

    May be killed at any moment and called again: finished pictures of the same settings are kept. A picture is kept
    when ``houses_in_progress.csv`` or ``attributes.csv`` describes it just as `sample_houses` does now.
    """
    folder = Path(folder)
    images = folder / "all_images"
    images.mkdir(parents=True, exist_ok=True)
    houses = sample_houses(per_type, seed)
    wanted = dict(zip(houses["file_label"], houses.to_csv(index=False).splitlines()[1:]))
    plans = [folder / "attributes.csv", folder / "houses_in_progress.csv"]
    drawn = {line.split(",")[0]: line for plan in plans if plan.exists() for line in plan.read_text().splitlines()[1:]}
    for name, line in drawn.items():
        if wanted.get(name) != line:
            (images / name).unlink(missing_ok=True)
    _replace(plans[1], houses)
    plans[0].unlink(missing_ok=True)
    for house in tqdm(houses.to_dict("records"), desc=f"drawing {folder.name}", unit="house"):
        path = images / house["file_label"]
        if path.exists() and house["file_label"] in drawn:
            continue
        partial = path.with_suffix(".partial")
        draw_house(house).save(partial, format="JPEG", quality=_JPEG_QUALITY[house["image_quality"]])
        os.replace(partial, path)
    _replace(folder / "labels.csv", houses[["file_label", "house_type"]])
    _replace(plans[0], houses)
    plans[1].unlink()


def _replace(path: Path, table: pd.DataFrame) -> None:
    partial = path.with_suffix(".partial")
    table.to_csv(partial, index=False)
    os.replace(partial, path)
