"""What surrounds a house: sky, hills or skyline, grounds, plants, and the people and cars that do
not count.
"""

import numpy as np
from PIL import Image

from imgsearch_utils.drawn_houses.building import SNOW, Plan
from imgsearch_utils.drawn_houses.painting import Canvas, Face, puff
from imgsearch_utils.drawn_houses.textures import grid

_SKIES = {  # zenith, horizon, clouds
    "morning": ((126, 170, 214), (244, 226, 206), (252, 244, 238)),
    "noon": ((74, 142, 214), (206, 228, 242), (255, 255, 255)),
    "sunset": ((92, 78, 138), (255, 170, 98), (255, 176, 140)),
    "night": ((12, 18, 44), (48, 58, 98), (54, 62, 92)),
}
_GRASS = {
    "spring": (124, 178, 78),
    "summer": (92, 146, 62),
    "autumn": (140, 146, 72),
    "winter": SNOW,
}
_CROPS = {
    "spring": (200, 196, 92),
    "summer": (214, 182, 92),
    "autumn": (150, 112, 74),
    "winter": (214, 212, 210),
}
_LEAVES = {
    "spring": [(150, 200, 90), (246, 190, 208), (130, 186, 84)],
    "summer": [(58, 116, 52), (76, 134, 58), (50, 104, 60)],
    "autumn": [(214, 122, 38), (190, 70, 36), (226, 172, 52)],
}
_FLOWERS = [(230, 60, 80), (250, 200, 50), (170, 90, 200), (250, 250, 250), (250, 130, 60)]
_CARS = [
    (196, 44, 40),
    (46, 92, 168),
    (236, 236, 232),
    (60, 62, 66),
    (222, 180, 60),
    (110, 150, 120),
]
_SKINS = [(236, 196, 164), (178, 128, 92), (112, 76, 54)]


def draw_sky(canvas: Canvas, plan: Plan, rng) -> None:
    """A gradient by the hour, clouds, the sun or the moon and stars."""
    size, time = canvas.camera.size, plan.house["time_of_day"]
    top, low, cloud = (np.array(c, np.float32) for c in _SKIES[time])
    t = (
        np.clip(np.arange(size) / max(canvas.camera.horizon, size * 0.3), 0, 1)[:, None, None]
        ** 1.2
    )
    canvas.image.paste(
        Image.fromarray((top + (low - top) * t).astype(np.uint8)).resize((size, size))
    )
    x, y, r = rng.uniform(0.1, 0.9) * size, 0.12 * size, 0.04 * size
    if plan.night:
        for star in rng.uniform(0, (size, size * 0.5), (40, 2)):
            canvas.disc(*star, 1, 1, (230, 232, 245))
        canvas.disc(x, y, r, r, (248, 244, 220))
    elif time == "sunset":
        canvas.disc(x, canvas.camera.horizon - 0.06 * size, r, r, (255, 232, 170))
    shapes = []
    for _ in range(rng.integers(0, 5)):
        x, y, w = rng.uniform(0, size), rng.uniform(0, size * 0.36), rng.uniform(0.08, 0.18) * size
        for dx in rng.uniform(-w, w, 5):
            r = rng.uniform(0.03, 0.4 * w / size) * size
            shapes.append(
                (puff(x + dx, y + rng.uniform(-10, 8), r, r * 0.6), rng.integers(120, 230))
            )
    canvas.haze(shapes, tuple(int(c) for c in cloud), 1.2)


def draw_background(canvas: Canvas, plan: Plan, rng) -> None:
    """Hills with woods behind a rural house, a skyline behind an urban one; far things fade into
    the sky.
    """
    size, horizon, season = canvas.camera.size, canvas.camera.horizon + 4, plan.house["season"]

    def far(colour, haze):
        mixed = (1 - haze) * np.array(canvas.lit(colour)) + haze * np.array(
            _SKIES[plan.house["time_of_day"]][1]
        )
        return tuple(int(c) for c in mixed)

    if not plan.urban:
        x = np.arange(0, size + 8, 8)
        for layer, haze in enumerate((0.62, 0.35, 0.12)):
            waves = sum(
                np.sin(x / size * rng.uniform(2, 9) * (1 + layer) + rng.uniform(0, 6))
                for _ in range(3)
            )
            y = horizon - size * (0.2 - 0.06 * layer) * rng.uniform(0.6, 1.1) * (
                0.55 + 0.2 * waves
            ).clip(0.05)
            outline = [(0, size), *zip(x.tolist(), y.tolist()), (size, size)]
            canvas.draw.polygon(outline, fill=far(np.array(_GRASS[season]) * 0.88, haze))
            for i in rng.integers(0, len(x), 26 if layer == 1 else 0):
                h = rng.uniform(0.02, 0.05) * size
                fir = [(x[i] - h * 0.28, y[i] + 3), (x[i], y[i] - h), (x[i] + h * 0.28, y[i] + 3)]
                canvas.draw.polygon(fir, fill=far((44, 78, 60), 0.3))
        return
    for haze in (0.6, 0.3):
        left = -rng.uniform(0, 30)
        while left < size:
            w, h = (
                rng.uniform(0.07, 0.15) * size,
                rng.uniform(0.14, 0.42) * size * (0.6 + 0.6 * haze),
            )
            wall = rng.uniform(110, 180) * np.array(
                (1, rng.uniform(0.92, 1), rng.uniform(0.86, 1.04))
            )
            canvas.draw.rectangle((left, horizon - h, left + w, size), fill=far(wall, haze))
            dark = far(wall * 0.72, haze)
            for x in np.arange(left + 6, left + w - 8, 14):
                for y in np.arange(horizon - h + 8, horizon, 18):
                    lamp = plan.night and rng.random() < 0.4
                    canvas.draw.rectangle(
                        (x, y, x + 6, y + 9), fill=(250, 208, 120) if lamp else dark
                    )
            left += w + rng.uniform(-4, 10)


def draw_ground(canvas: Canvas, plan: Plan) -> None:
    """Lawn, crops or paving, with the shade of the house, the path, the drive, the street and the
    pool.
    """
    size, season, grounds = canvas.camera.size, plan.house["season"], plan.house["grounds"]
    stone = (206, 206, 204) if plan.snow else (188, 182, 172)

    def texture(u, v):
        noise, kind = grid(u, v, 0.16, 0.16), np.zeros(u.shape, np.uint8)
        colours = [{"paved": stone, "field": _CROPS[season]}.get(grounds, _GRASS[season])]

        def lay(where, colour, factor):
            np.putmask(kind, where, len(colours))
            np.putmask(shade, where, factor)
            colours.append(colour)

        if grounds == "paved":
            joint = ((u / 1.1) % 1 < 0.06) | ((v / 1.1) % 1 < 0.06)
            shade = np.where(joint, 0.78, 0.95 + 0.08 * grid(u, v, 1.1, 1.1))
        elif grounds == "field":
            shade = np.where((u / 0.9) % 1 < 0.3, np.float32(0.74), 0.86 + 0.28 * noise)
        else:
            mown = (
                np.where((v / 1.7) % 2 < 1, 0.94, 1.06)
                if grounds == "lawn" and not plan.snow
                else 1.0
            )
            shade = mown * (0.92 + 0.14 * noise)
        slabs = 0.88 + 0.12 * noise
        lay((np.abs(u - plan.door) < 0.65) & (v < 0), stone, slabs)
        if plan.wing:
            lay((np.abs(u - plan.drive) < 1.6) & (v < 0.7), stone, slabs)
        shade = shade * np.where(
            (np.abs(u - 0.9) < plan.half + 0.6) & (v > -1.1) & (v < plan.depth), 0.74, 1
        )
        if plan.urban:
            lay(v < -4, stone, 1.06)
            line = (np.abs(v + 8) < 0.1) & (u % 3 < 1.6)
            lay(v < -5.2, (92, 94, 100), np.where(line, 2.2, 0.94 + 0.1 * noise))
        if plan.house["pool"]:
            du, dv = np.abs(u - plan.pool), np.abs(v + 3.1)
            lay((du < 3.0) & (dv < 1.6), (226, 220, 208), 1)
            lay(
                (du < 2.6) & (dv < 1.25),
                (44, 176, 204),
                0.92 + 0.14 * np.sin(u * 5 + 2 * np.sin(v * 4)),
            )
        return np.array(colours, np.float32)[kind] * shade[:, :, None].astype(np.float32)

    start = max(0.0, canvas.camera.horizon + 3)
    plane = Face([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)])
    canvas.paint(plane, (1, 1, 1), texture, [(0, start), (size, start), (size, size), (0, size)])


def _tree(canvas: Canvas, plan: Plan, x, z, height, rng) -> None:
    px, py, s = canvas.camera.spot(x, z)
    s, trunk, season = s * height, canvas.lit((96, 74, 56)), plan.house["season"]
    conifer = not plan.urban and rng.random() < 0.55
    canvas.draw.line(
        [(px, py), (px, py - s * (0.2 if conifer else 0.5))],
        fill=trunk,
        width=max(2, round(s * 0.05)),
    )
    if conifer:
        for i in range(4):
            y, r = py - s * (0.12 + 0.2 * i), s * (0.26 - 0.05 * i)
            tip, half = (px, y - s * 0.34), y - s * 0.17
            canvas.draw.polygon(
                [(px - r, y), tip, (px + r, y)], fill=canvas.lit((40, 84, 58), 0.9 + 0.1 * i)
            )
            if plan.snow:
                canvas.draw.polygon(
                    [(px - r * 0.5, half), tip, (px + r * 0.5, half)], fill=canvas.lit(SNOW)
                )
    elif plan.snow:
        for angle in rng.uniform(-1.1, 1.1, 12):
            start, length = py - s * rng.uniform(0.3, 0.55), s * rng.uniform(0.25, 0.45)
            end = (px + np.sin(angle) * length, start - np.cos(angle) * length)
            canvas.draw.line([(px, start), end], fill=trunk, width=max(1, round(s * 0.02)))
    else:
        leaves = _LEAVES[season][rng.integers(3)]
        for i in range(14):
            r = s * rng.uniform(0.1, 0.18)
            at = px + s * rng.uniform(-0.22, 0.22), py - s * rng.uniform(0.45, 0.9)
            canvas.disc(*at, r, r, canvas.lit(leaves, 0.7 + 0.03 * i))


def _shrubs(canvas: Canvas, plan: Plan, rng) -> None:
    """The beds of a garden: shrubs and flowers along the front."""
    for z in (-0.7, -2.9):
        for x in np.arange(-plan.half - 3, plan.half + 3, 0.55):
            swum = plan.house["pool"] and abs(x - plan.pool) < 3.3
            driven = plan.wing and abs(x - plan.drive) < 2.1
            if swum or driven or abs(x - plan.door) < 1 or (plan.house["porch"] and z > -2):
                continue
            px, py, s = canvas.camera.spot(x + rng.uniform(-0.1, 0.1), z)
            r = s * rng.uniform(0.28, 0.46)
            canvas.disc(
                px, py - 0.75 * r, r, 0.95 * r, canvas.lit((62, 112, 56), rng.uniform(0.8, 1.2))
            )
            if plan.snow:
                canvas.disc(px, py - 1.1 * r, 0.8 * r, 0.6 * r, canvas.lit(SNOW))
            elif plan.house["season"] != "autumn":
                flower = canvas.lit(_FLOWERS[rng.integers(len(_FLOWERS))])
                for dx, dy in rng.uniform((-0.8, -1.4), (0.8, 0), (5, 2)) * r:
                    canvas.disc(px + dx, py + dy, 2.5, 2.5, flower)


def _enclosure(canvas: Canvas, plan: Plan, rng) -> None:
    """The hedge (in town) or the fence that closes a house off, with a gap for the path and the
    drive.
    """
    z = -5.0 if plan.house["pool"] else -3.8
    wood = (240, 240, 236) if plan.kind == "farmhouse" else (120, 92, 64)
    for x in np.arange(-plan.half - 7, plan.half + 7, 0.4):
        if abs(x - plan.door) < 0.9 or (plan.wing and abs(x - plan.drive) < 1.9):
            continue
        if plan.urban:
            hedge = Face([(x, 0, z), (x + 0.42, 0, z), (x + 0.42, 0.8, z), (x, 0.8, z)])
            canvas.paint(hedge, np.array((58, 104, 60)) * rng.uniform(0.88, 1.1))
            canvas.beam(
                (x, 0.85, z), (x + 0.42, 0.85, z), 0.22, SNOW if plan.snow else (78, 130, 72)
            )
        else:
            canvas.beam((x, 0, z), (x, 0.95, z), 0.2, wood)
            canvas.beam((x, 0.65, z), (x + 0.4, 0.65, z), 0.1, wood)


def draw_planting(canvas: Canvas, plan: Plan, rng, behind: bool) -> None:
    """Trees behind the house; or before it a tree at times, a garden's beds and the enclosure."""
    if behind:
        for _ in range(rng.integers(2, 6)):
            x = rng.choice((-1, 1)) * rng.uniform(0.3, 1.8) * (plan.half + 3)
            _tree(canvas, plan, x, plan.depth + rng.uniform(2, 9), rng.uniform(5, 9), rng)
        return
    if plan.house["grounds"] == "garden":
        _shrubs(canvas, plan, rng)
    if not plan.open:
        _enclosure(canvas, plan, rng)
    if rng.random() < 0.5:
        x = -plan.side * (plan.half + rng.uniform(1.5, 3))
        _tree(canvas, plan, x, rng.uniform(-2, 1), rng.uniform(3.5, 6), rng)


def _person(canvas: Canvas, x, z, rng) -> None:
    px, py, s = canvas.camera.spot(x, z)
    s = s * rng.uniform(1.2, 1.8)
    shirt, legs = (canvas.lit(rng.integers(40, 230, 3)) for _ in range(2))
    for side in (-s, s):
        foot, hip = (px + side * 0.07, py), (px + side * 0.04, py - 0.45 * s)
        canvas.draw.line([foot, hip], fill=legs, width=max(2, round(s * 0.09)))
    body = (px - 0.13 * s, py - 0.8 * s, px + 0.13 * s, py - 0.4 * s)
    canvas.draw.rounded_rectangle(body, radius=0.06 * s, fill=shirt)
    canvas.disc(px, py - 0.9 * s, 0.09 * s, 0.1 * s, canvas.lit(_SKINS[rng.integers(3)]))


def _car(canvas: Canvas, x, z, rng) -> None:
    px, py, s = canvas.camera.spot(x, z)
    paint, pane = canvas.lit(_CARS[rng.integers(len(_CARS))]), canvas.lit((150, 182, 200))
    body = (px - 2 * s, py - 0.95 * s, px + 2 * s, py - 0.25 * s)
    canvas.draw.rounded_rectangle(body, radius=0.25 * s, fill=paint)
    for outline, fill in (
        ([(-1.25, -0.9), (-0.8, -1.5), (0.7, -1.5), (1.2, -0.9)], paint),
        ([(-1.05, -0.92), (-0.74, -1.4), (-0.1, -1.4), (-0.1, -0.92)], pane),
        ([(0.0, -0.92), (0.0, -1.4), (0.64, -1.4), (0.98, -0.92)], pane),
    ):
        canvas.draw.polygon([(px + a * s, py + b * s) for a, b in outline], fill=fill)
    for a in (-1.2 * s, 1.2 * s):
        canvas.disc(px + a, py - 0.34 * s, 0.36 * s, 0.36 * s, canvas.lit((34, 34, 38)))
        canvas.disc(px + a, py - 0.34 * s, 0.16 * s, 0.16 * s, canvas.lit((176, 178, 182)))


def draw_passers(canvas: Canvas, plan: Plan, rng) -> None:
    """People and cars, which the rubric ignores."""
    for _ in range(plan.house["cars"]):
        _car(canvas, rng.uniform(-1, 1) * (plan.half + 2), rng.uniform(-6, -4.5), rng)
    for _ in range(plan.house["people"]):
        _person(canvas, rng.uniform(-1, 1) * (plan.half + 1), rng.uniform(-5, -2.5), rng)


def draw_air(canvas: Canvas, smoke: tuple | None, rng) -> None:
    """The smoke of the chimney and the glow of lit windows."""
    if smoke is not None:
        (x, y), s, drift = (
            canvas.camera.project([smoke])[0],
            canvas.camera.scale(smoke),
            rng.choice((-1, 1)),
        )
        r = s * (0.25 + 0.12 * np.arange(7))
        shapes = [
            (puff(x + drift * i * i * 0.07 * s, y - i * 0.42 * s, r[i], r[i]), 170 - 20 * i)
            for i in range(7)
        ]
        canvas.haze(shapes, canvas.lit((236, 236, 238)), 0.9)
    if canvas.glows:
        canvas.haze([(points, 90) for points in canvas.glows], (255, 206, 120), 3)
