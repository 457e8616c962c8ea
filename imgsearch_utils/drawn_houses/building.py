"""The plan of a house, and its walls and roofs."""

import colorsys
from collections.abc import Mapping

import numpy as np

from imgsearch_utils.drawn_houses.painting import Canvas, Face
from imgsearch_utils.drawn_houses.textures import TEXTURES

SNOW = (238, 242, 250)

# Saturation and value by (boldness, palette), of walls, roofs and of doors and shutters.
_WALLS = {
    ("bold", "light"): (0.42, 0.96),
    ("bold", "dark"): (0.78, 0.46),
    ("regular", "light"): (0.06, 0.94),
    ("regular", "dark"): (0.14, 0.36),
}
_ROOFS = {
    ("bold", "light"): (0.6, 0.62),
    ("bold", "dark"): (0.4, 0.32),
    ("regular", "light"): (0.08, 0.52),
    ("regular", "dark"): (0.12, 0.27),
}
_ACCENTS = {"bold": (0.82, 0.82), "regular": (0.18, 0.36)}
_BOLD_HUES = {
    "light": (0.0, 0.05, 0.11, 0.14, 0.38, 0.5, 0.56, 0.93),
    "dark": (0.0, 0.01, 0.4, 0.48, 0.58, 0.63, 0.8),
}
# others: painted
_HUES = {"logs": 0.085, "stone": 0.09, "brick": 0.04, "concrete": 0.1, "glass": 0.55}
_TONED = {"logs": 0.3, "brick": 0.2, "stone": 0.06, "glass": 0.12}  # more saturated than paint
_FRAMES = {"farmhouse": (250, 250, 246), "modern": (38, 40, 44), "rustic": (84, 56, 36)}


class Plan:
    """Measures of a house in metres and its colours; the liberties come from `rng`."""

    def __init__(self, house: Mapping, rng: np.random.Generator):
        self.house, self.kind, self.modern = (
            house,
            house["house_type"],
            house["house_type"] == "modern",
        )
        self.night, self.snow = house["time_of_day"] == "night", house["season"] == "winter"
        self.urban, self.open = house["setting"] == "urban", house["feel"] == "open"
        self.bay, self.storey = (2.7, 3.1) if self.modern else (2.4, 2.7)
        self.width, self.depth = house["bays"] * self.bay + 0.5, 6.5
        self.half, self.height = self.width / 2, house["floors"] * self.storey + 0.3
        self.wing = 3.9 if house["garage"] else 0.0
        self.side = 1 if rng.random() < 0.5 else -1  # where the garage is, or would be
        self.drive = self.side * (self.half + self.wing / 2)
        self.pool = -self.side * (self.half - 1.2)
        self.door_bay = int(rng.integers(house["bays"]))
        self.door = -self.half + (self.door_bay + 0.5) * self.width / house["bays"]
        # The ridge runs to the street ("z") or along it ("x").
        to_street = house["roof"] in ("gambrel", "shed") or (
            house["bays"] <= 3 and rng.random() < 0.5
        )
        self.axis = "z" if to_street and house["roof"] != "hip" else "x"
        self.slant = rng.random() < 0.5
        span = self.width if self.axis == "z" else self.depth
        pitch = {"gable": 0.42, "gambrel": 0.42, "hip": 0.36, "flat": 0.0, "shed": 0.2}[
            house["roof"]
        ]
        self.rise = min(span * pitch, 4.2)
        self.top = self.height + self.rise
        self.cover = TEXTURES["seams" if self.modern or house["roof"] == "gambrel" else "shingles"]
        key, material = (house["boldness"], house["palette"]), house["material"]
        paint = rng.choice(_BOLD_HUES[key[1]] if key[0] == "bold" else (0.1, 0.13, 0.6))
        hue = _HUES.get(material, paint) + rng.normal(0, 0.012)
        saturation, value = _WALLS[key]
        self.wall = _colour(
            hue,
            saturation + _TONED.get(material, 0),
            value * (0.92 if material in _TONED else 1),
            rng,
        )
        self.roof = _colour(rng.choice((0.02, 0.05, 0.45, 0.6)), *_ROOFS[key], rng)
        self.roof_now = np.array(SNOW) if self.snow else self.roof
        self.accent = _colour(rng.choice(_BOLD_HUES["dark"]), *_ACCENTS[key[0]], rng)
        self.frame = np.array(_FRAMES[self.kind])


def _colour(hue, saturation, value, rng) -> np.ndarray:
    value = min(1.0, value * rng.uniform(0.94, 1.06))
    return (
        np.array(
            colorsys.hsv_to_rgb(hue % 1, min(1.0, saturation * rng.uniform(0.85, 1.15)), value)
        )
        * 255
    )


def _profile(form: str, rise: float, slant: bool) -> list[tuple[float, float]]:
    """Outline of the roof across its span: (share of the span, metres above the eaves)."""
    return {
        "gambrel": [(0, 0), (0.17, 0.62 * rise), (0.5, rise), (0.83, 0.62 * rise), (1, 0)],
        "gable": [(0, 0), (0.5, rise), (1, 0)],
        "shed": [(0, 0), (1, rise)] if slant else [(0, rise), (1, 0)],
    }.get(form, [(0, 0), (1, 0)])


def _hip(x0, x1, z0, depth, height, rise, over) -> list[Face]:
    run = min(depth, x1 - x0) / 2
    near, far, west, east = z0 - over, z0 + depth + over, x0 - over, x1 + over
    a, b, c, d = ((x, height, z) for x, z in ((west, near), (east, near), (east, far), (west, far)))
    left, right = ((x, height + rise, z0 + depth / 2) for x in (x0 + run, x1 - run - 0.01))
    return [Face([b, c, right]), Face([d, a, left]), Face([a, b, right, left])]


def draw_volume(
    canvas: Canvas, plan: Plan, x0, x1, z0, depth, height, form, axis, rise
) -> list[Face]:
    """Draw walls and roof of one volume, x0..x1 by z0..z0 + depth metres; return the walls seen,
    the front first.
    """
    profile, camera, over = _profile(form, rise, plan.slant), canvas.camera, 0.45
    middle = (x0 + x1) / 2

    def point(t, h, end, out=0.0):
        """A point of the profile at one end of the ridge (0: near or left), pushed outwards."""
        across, along = (
            ((x0, x1), (z0, z0 + depth)) if axis == "z" else ((z0, z0 + depth), (x0, x1))
        )
        a = across[0] + t * (across[1] - across[0]) + out * ((t == 1) - (t == 0))
        b = along[end] + out * (2 * end - 1)
        return (a, height + h, b) if axis == "z" else (b, height + h, a)

    front = (
        [point(t, h, 0) for t, h in profile]
        if axis == "z"
        else [point(*profile[0], end) for end in (0, 1)]
    )
    ends = [[point(t, h, end) for t, h in profile] for end in (0, 1)]
    left, right = (
        ([[point(*profile[i], end) for end in (0, 1)] for i in (0, -1)]) if axis == "z" else ends
    )
    walls = [
        Face([(x0, 0, z0), (x1, 0, z0), *reversed(front)]),
        Face([(x1, 0, z0), (x1, 0, z0 + depth), *reversed(right)]),
        Face([(x0, 0, z0 + depth), (x0, 0, z0), *left]),
    ]
    if form == "hip":
        slabs = _hip(x0, x1, z0, depth, height, rise, over)
    else:
        slabs = []
        for (t0, h0), (t1, h1) in zip(profile, profile[1:]):
            a, b, c, d = (
                point(*p, over) for p in ((t0, h0, 0), (t1, h1, 0), (t1, h1, 1), (t0, h0, 1))
            )
            slabs.append(Face([d, a, b, c] if axis == "z" else [a, d, c, b]))
    for slab in slabs:
        if not slab.seen(camera) and form != "hip":
            canvas.paint(slab, plan.roof * 0.45)
    walls = [wall for wall in walls if wall.seen(camera)]
    for wall in walls:
        canvas.paint(wall, plan.wall, TEXTURES[plan.house["material"]])
    for slab in slabs:
        if slab.seen(camera):
            canvas.paint(slab, plan.roof_now, None if plan.snow else plan.cover)
    near = 0 if axis == "z" or camera.position[0] < middle else 1
    rake = [point(t, h, near, over) for t, h in profile]
    eave = profile[-1] if axis == "z" and camera.position[0] > middle else profile[0]
    edges = [*zip(rake, rake[1:]), (point(*eave, 0, over), point(*eave, 1, over))]
    colour = SNOW if plan.snow else (plan.roof if form == "flat" else plan.frame)
    for start, end in edges:
        canvas.beam(start, end, 0.42 if form == "flat" else 0.22, colour)
    return walls
