"""A drawn house in its surroundings, and a folder full of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image, ImageFilter

from imgsearch_utils.drawn_houses import scenery
from imgsearch_utils.drawn_houses.attributes import sample_houses
from imgsearch_utils.drawn_houses.building import Plan
from imgsearch_utils.drawn_houses.fittings import draw_building
from imgsearch_utils.drawn_houses.painting import Camera, Canvas

_DRAWN = b"drawn house"  # how the comment in a picture begins
_HAND = 3  # to be counted up when the drawing changes, so that old pictures are drawn anew
_TINTS = {
    "morning": (0.92, 0.97, 1.04),
    "noon": (1.04, 1.03, 1.0),
    "sunset": (1.06, 0.86, 0.72),
    "night": (0.46, 0.52, 0.72),
}
_JPEG_QUALITY = {"sharp": 92, "soft": 88, "noisy": 80, "compressed": 22}


def _camera(house: Mapping, plan: Plan, rng: np.random.Generator, size: int) -> Camera:
    """Stand where the whole house fits."""
    yaw = np.radians(abs(house["camera_yaw"]))
    across = (plan.width + plan.wing) * np.cos(yaw) + plan.depth * np.sin(yaw)
    distance = (
        1.35 * max(across / 0.86, (plan.top + 1) / 0.66, 9.0) / house["camera_zoom"]
        + plan.depth / 2
    )
    shift = -0.5 * plan.wing * plan.side * np.cos(yaw) * 1.35 / distance
    centre = (0.5 + shift + rng.uniform(-0.05, 0.05), rng.uniform(0.66, 0.72))
    return Camera(
        house["camera_yaw"], house["camera_height"], distance, plan.depth / 2, size, centre
    )


def draw_house(house: Mapping, size: int = 256) -> Image.Image:
    """Draw one house: a `size` x `size` RGB picture, decided by the row of `sample_houses` alone.

    It is drawn at twice the size and halved, then made soft or noisy where the house's
    ``image_quality`` says so (what compression does is left to `write_houses`)."""
    rng = np.random.default_rng(int(house["detail_seed"]))
    plan = Plan(house, rng)
    canvas = Canvas(
        _camera(house, plan, rng, 2 * size), _TINTS[house["time_of_day"]], rng.random() < 0.6
    )
    scenery.draw_sky(canvas, plan, rng)
    scenery.draw_background(canvas, plan, rng)
    scenery.draw_ground(canvas, plan)
    scenery.draw_planting(canvas, plan, rng, behind=True)
    smoke = draw_building(canvas, plan, rng)
    scenery.draw_planting(canvas, plan, rng, behind=False)
    scenery.draw_passers(canvas, plan, rng)
    scenery.draw_air(canvas, smoke, rng)
    picture = canvas.image.reduce(2)
    if house["image_quality"] == "soft":
        return picture.filter(ImageFilter.GaussianBlur(size / 220))
    if house["image_quality"] == "noisy":
        noise = rng.normal(0, 14, (size, size, 3)).astype(np.float32)
        return Image.fromarray(
            np.clip(np.asarray(picture, np.float32) + noise, 0, 255).astype(np.uint8)
        )
    return picture


def write_houses(folder: Path, per_type: int, seed: int = 0, progress: Callable = iter) -> None:
    """Write a data set: ``all_images/*.jpg``, ``labels.csv`` (file_label, house_type) and
    ``attributes.csv``.

    May be killed at any moment and called again. Each picture carries its house's row as a comment,
    so those that are already right are kept, those of another seed are drawn anew, and those of
    houses no longer wanted are removed. Several processes may call it at once: one draws, the
    others wait.

    progress : wraps the houses that are drawn, e.g. ``tqdm``
    """
    folder = Path(folder)
    (folder / "all_images").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        _write_houses(folder, folder / "all_images", per_type, seed, progress)


def _write_houses(folder, images, per_type, seed, progress) -> None:
    houses = sample_houses(per_type, seed)
    tables = {"labels.csv": houses[["file_label", "house_type"]], "attributes.csv": houses}
    for name, table in tables.items():
        if (folder / name).exists() and (folder / name).read_text() != table.to_csv(index=False):
            (folder / name).unlink()
    comments = {path: _comment_in(path) for path in images.iterdir()}
    wanted = {images / house["file_label"]: house for house in houses.to_dict("records")}
    for path, comment in comments.items():
        if path not in wanted and (comment.startswith(_DRAWN) or path.suffix == ".partial"):
            path.unlink()
    missing = {
        path: house for path, house in wanted.items() if comments.get(path) != _comment(house)
    }
    for path, house in progress(missing.items()) if missing else ():
        partial = path.with_suffix(".partial")
        quality = _JPEG_QUALITY[house["image_quality"]]
        draw_house(house).save(partial, format="JPEG", quality=quality, comment=_comment(house))
        partial.replace(path)
    for name, table in tables.items():
        if not (folder / name).exists():
            _write(folder / name, table)


def _comment(house: Mapping) -> bytes:
    return _DRAWN + f" {_HAND} {json.dumps(house)}".encode()


def _comment_in(path: Path) -> bytes:
    """The comment in a picture; empty where there is none."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("comment", b"")
    except OSError:
        return b""


def _write(path: Path, table: pd.DataFrame) -> None:
    partial = path.with_suffix(".partial")
    table.to_csv(partial, index=False)
    partial.replace(path)
