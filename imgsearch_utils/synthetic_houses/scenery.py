"""What surrounds a house: sky, hills or skyline, grounds, plants, and the people and cars that do not count."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from imgsearch_utils.synthetic_houses.building import Plan
from imgsearch_utils.synthetic_houses.canvas import Canvas, Face, cells

_SKIES = {  # zenith and horizon
    "morning": ((126, 170, 214), (244, 226, 206)),
    "noon": ((74, 142, 214), (206, 228, 242)),
    "sunset": ((92, 78, 138), (255, 170, 98)),
    "night": ((12, 18, 44), (48, 58, 98)),
}
_GRASS = {"spring": (124, 178, 78), "summer": (92, 146, 62), "autumn": (152, 144, 72), "winter": (236, 240, 248)}
_LEAVES = {
    "spring": [(150, 200, 90), (246, 190, 208), (130, 186, 84)],
    "summer": [(58, 116, 52), (76, 134, 58), (50, 104, 60)],
    "autumn": [(214, 122, 38), (190, 70, 36), (226, 172, 52)],
    "winter": [(232, 236, 244)],
}
_FLOWERS = [(230, 60, 80), (250, 200, 50), (170, 90, 200), (250, 250, 250), (250, 130, 60)]


def draw_sky(canvas: Canvas, house: Mapping, rng) -> None:
    size, time = canvas.camera.size, house["time_of_day"]
    top, low = (np.array(c, np.float32) for c in _SKIES[time])
    t = np.clip(np.arange(size, dtype=np.float32) / max(canvas.camera.horizon, size * 0.3), 0, 1)[:, None, None] ** 1.2
    column = Image.fromarray((top + (low - top) * t).astype(np.uint8))
    canvas.image.paste(column.resize((size, size)))
    small = Image.new("L", (size // 8, size // 8))
    pen = ImageDraw.Draw(small)
    for _ in range(rng.integers(0, 5)):
        x, y, w = rng.uniform(0, size / 8), rng.uniform(0, size / 22), rng.uniform(5, 12)
        for _ in range(5):
            cx, cy, r = x + rng.uniform(-w, w), y + rng.uniform(-1.5, 1), rng.uniform(2, w / 2)
            pen.ellipse((cx - r, cy - r * 0.6, cx + r, cy + r * 0.6), fill=int(rng.integers(120, 230)))
    cloud = {"morning": (252, 244, 238), "noon": (255, 255, 255), "sunset": (255, 176, 140), "night": (54, 62, 92)}[time]
    mask = small.filter(ImageFilter.GaussianBlur(1.2)).resize((size, size), Image.BICUBIC)
    canvas.image.paste(cloud, (0, 0), mask)
    if time == "night":
        for x, y in rng.uniform(0, (size, size * 0.5), (40, 2)):
            canvas.draw.ellipse((x, y, x + 2, y + 2), fill=(230, 232, 245))
        x, y, r = rng.uniform(0.1, 0.9) * size, 0.12 * size, 0.035 * size
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=(248, 244, 220))
    elif time == "sunset":
        x, y, r = rng.uniform(0.1, 0.9) * size, canvas.camera.horizon - 0.06 * size, 0.05 * size
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 232, 170))


def _hazy(canvas: Canvas, colour, time: str, haze: float) -> tuple:
    return tuple(int(c) for c in (1 - haze) * np.array(canvas.lit(colour)) + haze * np.array(_SKIES[time][1]))


def draw_background(canvas: Canvas, house: Mapping, rng) -> None:
    """Hills with woods behind a rural house, a skyline behind an urban one."""
    size, horizon, time = canvas.camera.size, canvas.camera.horizon + 4, house["time_of_day"]
    x = np.arange(0, size + 8, 8)
    if house["setting"] == "rural":
        snow = house["season"] == "winter"
        for layer, haze in enumerate((0.62, 0.35, 0.12)):
            height = size * (0.2 - 0.06 * layer) * rng.uniform(0.6, 1.1)
            waves = [np.sin(x / size * rng.uniform(2, 9) * (1 + layer) + rng.uniform(0, 6)) for _ in range(3)]
            y = horizon - height * (0.55 + 0.2 * sum(waves)).clip(0.05)
            colour = (222, 228, 240) if snow else (np.array(_GRASS[house["season"]]) * (0.9 if layer else 0.8))
            canvas.draw.polygon([(0, size), *zip(x.tolist(), y.tolist()), (size, size)], fill=_hazy(canvas, colour, time, haze))
            for i in rng.integers(0, len(x), 26 if layer == 1 else 0):
                h = rng.uniform(0.02, 0.05) * size
                points = [(x[i] - h * 0.28, y[i] + 3), (x[i], y[i] - h), (x[i] + h * 0.28, y[i] + 3)]
                canvas.draw.polygon(points, fill=_hazy(canvas, (44, 78, 60), time, 0.3))
        return
    for haze in (0.6, 0.3):
        left = -rng.uniform(0, 30)
        while left < size:
            w, h = rng.uniform(0.07, 0.15) * size, rng.uniform(0.14, 0.42) * size * (0.6 + 0.6 * haze)
            grey = rng.uniform(110, 180) * np.array((1, rng.uniform(0.92, 1), rng.uniform(0.86, 1.04)))
            canvas.draw.rectangle((left, horizon - h, left + w, size), fill=_hazy(canvas, grey, time, haze))
            for cx in np.arange(left + 6, left + w - 8, 14):
                for cy in np.arange(horizon - h + 8, horizon, 18):
                    glow = time == "night" and rng.random() < 0.4
                    canvas.draw.rectangle((cx, cy, cx + 6, cy + 9),
                                          fill=(250, 208, 120) if glow else _hazy(canvas, grey * 0.72, time, haze))
            left += w + rng.uniform(-4, 10)


def draw_ground(canvas: Canvas, house: Mapping, plan: Plan, rng) -> None:
    """Grass, meadow or paving, with the path, the drive, the street and the pool."""
    size, horizon, season = canvas.camera.size, canvas.camera.horizon, house["season"]
    grass = np.array(_GRASS[season], np.float32)
    snow, grounds, urban = season == "winter", house["grounds"], house["setting"] == "urban"
    door = -plan.half + (plan.door_bay + 0.5) * plan.width / house["bays"]
    drive = plan.garage_side * (plan.half + plan.wing / 2)
    pool_x = -plan.garage_side * (plan.half - 1.2)
    paving = np.array((206, 206, 204) if snow else (188, 182, 172), np.float32)
    meadow = np.array((238, 240, 246) if snow else {"spring": (150, 180, 84), "summer": (206, 180, 96),
                                                     "autumn": (186, 150, 84)}[season], np.float32)

    def texture(u, v):
        noise = cells(np.floor(u / 0.16), np.floor(v / 0.16))
        if grounds == "paved":
            joint = ((u / 1.1) % 1 < 0.06) | ((v / 1.1) % 1 < 0.06)
            colour = paving * (np.where(joint, 0.78, 0.95 + 0.08 * cells(np.floor(u / 1.1), np.floor(v / 1.1))))[:, :, None]
        elif grounds == "field":
            furrow = 0.9 + 0.14 * np.sin((u + 0.3 * v) * 2.2) * (not snow)
            colour = meadow * (furrow * (0.84 + 0.26 * noise))[:, :, None]
        else:
            stripes = np.where((u / 1.7) % 2 < 1, 0.92, 1.08) if grounds == "lawn" and not snow else 1.0
            colour = grass * (stripes * (0.9 + 0.16 * noise))[:, :, None]
        path = (np.abs(u - door) < 0.65) & (v < 0) & (v > -12)
        if house["garage"]:
            path |= (np.abs(u - drive) < 1.6) & (v < 0.7)
        if grounds != "field" or house["garage"]:
            colour = np.where(path[:, :, None], paving * 0.94 * (0.92 + 0.12 * noise)[:, :, None], colour)
        if urban:
            street, kerb = v < -5.2, (v < -4) & (v > -5.2)
            colour = np.where(kerb[:, :, None], paving * 1.06, colour)
            line = (np.abs(v + 8) < 0.1) & (u % 3 < 1.6)
            asphalt = np.where(line, 2.2, 0.94 + 0.1 * noise)[:, :, None] * np.array((92, 94, 100), np.float32)
            colour = np.where(street[:, :, None], asphalt, colour)
        if house["pool"]:
            du, dv = np.abs(u - pool_x), np.abs(v + 3.1)
            colour = np.where(((du < 3.0) & (dv < 1.6))[:, :, None], np.array((226, 220, 208), np.float32), colour)
            ripple = 0.92 + 0.14 * np.sin(u * 5 + 2 * np.sin(v * 4))
            colour = np.where(((du < 2.6) & (dv < 1.25))[:, :, None], ripple[:, :, None] * np.array((44, 176, 204)), colour)
        return colour

    plane = Face([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)])
    start = max(0.0, horizon + 3)
    canvas.paint_screen(plane, [(0, start), (size, start), (size, size), (0, size)], (1, 1, 1), texture)


def _tree(canvas: Canvas, x, z, height, kind, season, rng) -> None:
    foot = canvas.camera.project([(x, 0, z)])[0]
    s = canvas.camera.scale((x, 0, z)) * height
    snow = season == "winter"
    trunk = canvas.lit((96, 74, 56))
    w = max(2, round(s * 0.05))
    if kind == "conifer":
        canvas.draw.line([tuple(foot), (foot[0], foot[1] - s * 0.2)], fill=trunk, width=w)
        for i in range(4):
            y, r = foot[1] - s * (0.12 + 0.2 * i), s * (0.26 - 0.05 * i)
            green = canvas.lit(np.array((40, 84, 58)) * (0.9 + 0.1 * i))
            canvas.draw.polygon([(foot[0] - r, y), (foot[0], y - s * 0.34), (foot[0] + r, y)], fill=green)
            if snow:
                canvas.draw.polygon([(foot[0] - r * 0.5, y - s * 0.17), (foot[0], y - s * 0.34), (foot[0] + r * 0.5, y - s * 0.17)],
                                    fill=canvas.lit((236, 240, 248)))
        return
    canvas.draw.line([tuple(foot), (foot[0], foot[1] - s * 0.5)], fill=trunk, width=w)
    if snow:
        for angle in rng.uniform(-1.1, 1.1, 12):
            start = foot[1] - s * rng.uniform(0.3, 0.55)
            length = s * rng.uniform(0.25, 0.45)
            end = (foot[0] + np.sin(angle) * length, start - np.cos(angle) * length)
            canvas.draw.line([(foot[0], start), end], fill=trunk, width=max(1, w // 2))
        return
    leaves = np.array(_LEAVES[season][rng.integers(len(_LEAVES[season]))])
    for i in range(14):
        r = s * rng.uniform(0.1, 0.18)
        cx, cy = foot[0] + s * rng.uniform(-0.22, 0.22), foot[1] - s * rng.uniform(0.45, 0.9)
        canvas.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=canvas.lit(leaves * (0.75 + 0.035 * i)))


def _shrubs(canvas: Canvas, plan: Plan, season, rng) -> None:
    """The beds of a garden: shrubs and flowers along the front."""
    door = -plan.half + (plan.door_bay + 0.5) * plan.width / plan.house["bays"]
    for z in (-0.7, -2.6):
        for x in np.arange(-plan.half, plan.half, 0.55):
            if abs(x - door) < 1 or (plan.house["pool"] and z < -1) or (plan.house["porch"] and z > -2):
                continue
            x0, y0 = canvas.camera.project([(x + rng.uniform(-0.1, 0.1), 0, z)])[0]
            r = canvas.camera.scale((x, 0, z)) * rng.uniform(0.28, 0.46)
            green = (226, 232, 240) if season == "winter" else np.array((62, 112, 56)) * rng.uniform(0.8, 1.2)
            canvas.draw.ellipse((x0 - r, y0 - 1.7 * r, x0 + r, y0 + 0.2 * r), fill=canvas.lit(green))
            if season in ("spring", "summer"):
                flower = canvas.lit(_FLOWERS[rng.integers(len(_FLOWERS))])
                for dx, dy in rng.uniform((-0.8, -1.4), (0.8, 0), (5, 2)) * r:
                    canvas.draw.ellipse((x0 + dx - 2.5, y0 + dy - 2.5, x0 + dx + 2.5, y0 + dy + 2.5), fill=flower)


def _enclosure(canvas: Canvas, plan: Plan, rng) -> None:
    """The hedge (in town) or the fence that closes a house off, with a gap for the path and the drive."""
    house, z = plan.house, -4.0 if plan.house["pool"] is False else -5.0
    door = -plan.half + (plan.door_bay + 0.5) * plan.width / house["bays"]
    drive = plan.garage_side * (plan.half + plan.wing / 2)
    white = house["house_type"] == "farmhouse"
    for x in np.arange(-plan.half - 7, plan.half + 7, 0.4):
        if abs(x - door) < 0.9 or (house["garage"] and abs(x - drive) < 1.9):
            continue
        if house["setting"] == "urban":
            corners = [(x, 0, z), (x + 0.42, 0, z), (x + 0.42, 1.2, z), (x, 1.2, z)]
            green = np.array((226, 230, 236) if house["season"] == "winter" else (52, 94, 54)) * rng.uniform(0.88, 1.1)
            canvas.paint(Face(corners), green)
        else:
            wood = (240, 240, 236) if white else (120, 92, 64)
            canvas.beam((x, 0, z), (x, 1.1, z), 0.2, wood)
            canvas.beam((x, 0.75, z), (x + 0.4, 0.75, z), 0.1, wood, 0.9)


def draw_planting(canvas: Canvas, house: Mapping, plan: Plan, rng, behind: bool) -> None:
    """Trees, beds and enclosure, behind the house or before it."""
    rural, season = house["setting"] == "rural", house["season"]
    if behind:
        for _ in range(rng.integers(2, 6)):
            kind = "conifer" if rural and rng.random() < 0.6 else "broad"
            x = rng.choice((-1, 1)) * rng.uniform(0.3, 1.8) * (plan.half + 3)
            _tree(canvas, x, plan.depth + rng.uniform(2, 9), rng.uniform(5, 9), kind, season, rng)
        return
    if house["grounds"] == "garden":
        _shrubs(canvas, plan, season, rng)
    if house["feel"] == "closed":
        _enclosure(canvas, plan, rng)
    if rng.random() < 0.5:
        x = -plan.garage_side * (plan.half + rng.uniform(1.5, 3))
        _tree(canvas, x, rng.uniform(-2, 1), rng.uniform(3.5, 6), "conifer" if rural and rng.random() < 0.5 else "broad", season, rng)


def _person(canvas: Canvas, x, z, rng) -> None:
    x0, y0 = canvas.camera.project([(x, 0, z)])[0]
    s = canvas.camera.scale((x, 0, z)) * rng.uniform(1.2, 1.8)
    shirt, legs = (canvas.lit(rng.integers(40, 230, 3)) for _ in range(2))
    skin = canvas.lit([(236, 196, 164), (178, 128, 92), (112, 76, 54)][rng.integers(3)])
    for side in (-1, 1):
        canvas.draw.line([(x0 + side * s * 0.07, y0), (x0 + side * s * 0.04, y0 - 0.45 * s)], fill=legs, width=max(2, round(s * 0.09)))
    canvas.draw.rounded_rectangle((x0 - 0.13 * s, y0 - 0.8 * s, x0 + 0.13 * s, y0 - 0.4 * s), radius=0.06 * s, fill=shirt)
    canvas.draw.ellipse((x0 - 0.09 * s, y0 - s, x0 + 0.09 * s, y0 - 0.8 * s), fill=skin)


def _car(canvas: Canvas, x, z, rng) -> None:
    x0, y0 = canvas.camera.project([(x, 0, z)])[0]
    s = canvas.camera.scale((x, 0, z))
    paint = canvas.lit([(196, 44, 40), (46, 92, 168), (236, 236, 232), (60, 62, 66), (222, 180, 60), (110, 150, 120)][rng.integers(6)])
    canvas.draw.rounded_rectangle((x0 - 2 * s, y0 - 0.95 * s, x0 + 2 * s, y0 - 0.25 * s), radius=0.25 * s, fill=paint)
    cabin = [(-1.25, -0.9), (-0.8, -1.5), (0.7, -1.5), (1.2, -0.9)]
    canvas.draw.polygon([(x0 + a * s, y0 + b * s) for a, b in cabin], fill=paint)
    for a, b in ((-1.05, -0.1), (0.0, 0.98)):
        pane = [(a, -0.92), (max(a, -0.74), -1.4), (min(b, 0.64), -1.4), (b, -0.92)]
        canvas.draw.polygon([(x0 + p * s, y0 + q * s) for p, q in pane], fill=canvas.lit((150, 182, 200)))
    for a in (-1.2, 1.2):
        canvas.draw.ellipse((x0 + (a - 0.36) * s, y0 - 0.7 * s, x0 + (a + 0.36) * s, y0 + 0.02 * s), fill=canvas.lit((34, 34, 38)))
        canvas.draw.ellipse((x0 + (a - 0.16) * s, y0 - 0.5 * s, x0 + (a + 0.16) * s, y0 - 0.18 * s), fill=canvas.lit((176, 178, 182)))


def draw_traffic(canvas: Canvas, house: Mapping, plan: Plan, rng) -> None:
    """People and cars, which the rubric ignores."""
    for _ in range(house["cars"]):
        _car(canvas, rng.uniform(-1, 1) * (plan.half + 2), rng.uniform(-6, -4.5), rng)
    for _ in range(house["people"]):
        _person(canvas, rng.uniform(-1, 1) * (plan.half + 1), rng.uniform(-5, -2.5), rng)


def draw_air(canvas: Canvas, house: Mapping, smoke: tuple | None, rng) -> None:
    """The glow of lit windows, the smoke of the chimney, falling snow."""
    size = canvas.camera.size
    small = Image.new("L", (size // 8, size // 8))
    pen = ImageDraw.Draw(small)
    if smoke is not None:
        x, y = canvas.camera.project([smoke])[0] / 8
        s = canvas.camera.scale(smoke) / 8
        drift = rng.choice((-1, 1))
        for i in range(7):
            r = s * (0.25 + 0.12 * i)
            cx, cy = x + drift * i * i * 0.07 * s, y - i * 0.42 * s
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=170 - 20 * i)
        mask = small.filter(ImageFilter.GaussianBlur(0.9)).resize((size, size), Image.BICUBIC)
        canvas.image.paste(canvas.lit((236, 236, 238)), (0, 0), mask)
    if canvas.glows:
        halo = Image.new("L", (size // 8, size // 8))
        pen = ImageDraw.Draw(halo)
        for points, _ in canvas.glows:
            pen.polygon([(px / 8, py / 8) for px, py in points], fill=150)
        mask = halo.filter(ImageFilter.GaussianBlur(3)).resize((size, size), Image.BICUBIC).point(lambda p: p * 0.6)
        canvas.image.paste((255, 206, 120), (0, 0), mask)
