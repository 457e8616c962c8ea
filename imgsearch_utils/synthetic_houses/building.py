"""The house itself: walls, roof, windows, doors, porch, garage and chimney, from the attributes."""

from collections.abc import Mapping

import numpy as np

from imgsearch_utils.synthetic_houses.canvas import WALLS, Canvas, Face, brick, concrete, seams, shingles, stone

_WOOD = (122, 84, 52)
_WARM = (255, 214, 130)

# By (boldness, palette); walls of logs, stone and brick have their own colours.
_PAINT = {
    ("bold", "light"): [(247, 208, 92), (142, 205, 226), (244, 158, 128), (158, 216, 160), (240, 178, 204)],
    ("bold", "dark"): [(158, 40, 36), (30, 62, 120), (26, 92, 66), (104, 42, 98), (20, 96, 112)],
    ("regular", "light"): [(244, 242, 234), (232, 224, 204), (214, 218, 220), (238, 230, 216)],
    ("regular", "dark"): [(78, 80, 84), (98, 84, 72), (84, 92, 84), (66, 72, 82)],
}
_NATURAL = {
    "logs": {
        ("bold", "light"): [(236, 164, 78), (232, 150, 66)],
        ("bold", "dark"): [(150, 62, 34), (136, 48, 30)],
        ("regular", "light"): [(212, 182, 138), (200, 174, 136)],
        ("regular", "dark"): [(108, 76, 50), (92, 68, 50)],
    },
    "stone": {
        ("bold", "light"): [(232, 192, 128), (226, 178, 140)],
        ("bold", "dark"): [(142, 84, 68), (100, 92, 124)],
        ("regular", "light"): [(206, 200, 188), (196, 196, 192)],
        ("regular", "dark"): [(112, 110, 108), (106, 98, 88)],
    },
    "brick": {
        ("bold", "light"): [(228, 138, 100), (232, 158, 112)],
        ("bold", "dark"): [(160, 58, 42), (142, 48, 40)],
        ("regular", "light"): [(214, 192, 172), (204, 196, 184)],
        ("regular", "dark"): [(112, 80, 70), (98, 78, 74)],
    },
}
_ACCENTS = {
    "bold": [(206, 40, 44), (244, 178, 34), (24, 120, 168), (30, 138, 88), (226, 104, 36)],
    "regular": [(88, 74, 62), (72, 82, 90), (104, 100, 94)],
}
_ROOFS = {
    ("bold", "light"): [(176, 74, 52), (64, 118, 128)],
    ("bold", "dark"): [(60, 72, 68), (98, 44, 38), (52, 58, 78)],
    ("regular", "light"): [(124, 122, 122), (138, 124, 110)],
    ("regular", "dark"): [(66, 62, 62), (78, 68, 60)],
}
_FRAMES = {"farmhouse": (250, 250, 246), "modern": (38, 40, 44), "rustic": (84, 56, 36)}


class Plan:
    """Measures of a house in metres, and its colours; the liberties come from `rng`."""

    def __init__(self, house: Mapping, rng: np.random.Generator):
        self.house = house
        modern = house["house_type"] == "modern"
        self.bay, self.storey = (2.7, 3.1) if modern else (2.4, 2.7)
        self.width, self.depth = house["bays"] * self.bay + 0.5, 6.5
        self.height = house["floors"] * self.storey + 0.3
        self.half = self.width / 2
        self.garage_side = 1 if rng.random() < 0.5 else -1
        self.door_bay = int(rng.integers(house["bays"]))
        narrow = house["bays"] <= 3
        # The ridge runs to the street ("z") or along it ("x").
        self.axis = "z" if house["roof"] in ("gambrel", "shed") or (narrow and rng.random() < 0.5) else "x"
        self.slant = rng.random() < 0.5
        key = (house["boldness"], house["palette"])

        def pick(choices):
            return np.clip(np.asarray(choices[rng.integers(len(choices))]) + rng.integers(-8, 9, 3), 0, 255)

        self.wall = pick(_NATURAL.get(house["material"], _PAINT)[key])
        self.roof = pick(_ROOFS[key])
        self.accent = pick(_ACCENTS[house["boldness"]])
        self.frame = _FRAMES[house["house_type"]]
        self.open = house["feel"] == "open"
        span = self.width if self.axis == "z" else self.depth
        self.span = span
        rise = {"gable": 0.42 * span, "gambrel": 0.42 * span, "hip": 0.34 * self.depth, "flat": 0.0, "shed": 0.2 * span}
        self.rise = min(rise[house["roof"]], 4.2)
        self.wing = 3.9 if house["garage"] else 0.0

    @property
    def top(self) -> float:
        return self.height + self.rise


def _profile(form: str, rise: float, slant: bool) -> list[tuple[float, float]]:
    """Outline of the roof across its span: (share of the span, metres above the eaves)."""
    if form == "gambrel":
        return [(0, 0), (0.17, 0.62 * rise), (0.5, rise), (0.83, 0.62 * rise), (1, 0)]
    if form == "shed":
        return [(0, 0), (1, rise)] if slant else [(0, rise), (1, 0)]
    if form == "flat":
        return [(0, 0), (1, 0)]
    return [(0, 0), (0.5, rise), (1, 0)]


def _hip_roof(canvas: Canvas, x0, x1, depth, height, rise, paint) -> None:
    o, r = 0.5, min(depth, x1 - x0) / 2
    e = height - 0.1
    a, b, c, d = (x0 - o, e, -o), (x1 + o, e, -o), (x1 + o, e, depth + o), (x0 - o, e, depth + o)
    left, right = (x0 + r, height + rise, depth / 2), (x1 - r, height + rise, depth / 2)
    for corners in ([b, c, right], [d, a, left]):
        paint(Face(corners), canvas.side_light)
    paint(Face([a, b, right, left]), canvas.front_light)
    for start, end in ((a, b), (b, c) if canvas.camera.position[0] > x1 else (d, a)):
        canvas.beam(start, end, 0.2, (226, 224, 218))


def _block(canvas: Canvas, plan: Plan, x0, x1, z0, depth, height, form, axis, rise, roof_cover, snow) -> list[Face]:
    """Draw walls and roof of one volume; return the visible walls, the front first."""
    texture = WALLS[plan.house["material"]]
    profile = _profile(form, rise, plan.slant)
    z1 = z0 + depth
    heights = [height + profile[0][1], height + profile[-1][1]]
    colour = (238, 242, 250) if snow else plan.roof
    cover = None if snow else roof_cover

    def edge_point(t, h, end, o=0.45):
        """The profile's point at an end of the ridge (0 near or left), pushed out by the overhang."""
        t = -o / (x1 - x0 if axis == "z" else depth) * (t == 0) + t + o / (x1 - x0 if axis == "z" else depth) * (t == 1)
        if axis == "z":
            return (x0 + t * (x1 - x0), height + h + 0.06, (z0 - o) if end == 0 else z1)
        return ((x0 - o) if end == 0 else (x1 + o), height + h + 0.06, z0 + t * depth)

    slabs = []
    for (t0, h0), (t1, h1) in zip(profile, profile[1:]):
        a, b = edge_point(t0, h0, 0), edge_point(t1, h1, 0)
        c, d = edge_point(t1, h1, 1), edge_point(t0, h0, 1)
        slabs.append(Face([d, a, b, c] if axis == "z" else [a, d, c, b]))
    if form != "hip":
        for slab in slabs:
            if not slab.faces(canvas.camera):
                canvas.paint(slab, plan.roof, None, 0.45)
    if axis == "z" and form != "hip":
        across = [(x0 + t * (x1 - x0), height + h, z0) for t, h in profile]
        front = Face([(x0, 0, z0), (x1, 0, z0), *reversed(across)])
        left, right = heights
    else:
        front = Face([(x0, 0, z0), (x1, 0, z0), (x1, heights[0], z0), (x0, heights[0], z0)])
        left = right = None
    ends = [(z0 + t * depth, height + h) for t, h in profile] if left is None and form != "hip" else None
    lh, rh = (left or height), (right or height)
    top_right = [(x1, h, z) for z, h in reversed(ends)] if ends else [(x1, rh, z1), (x1, rh, z0)]
    top_left = [(x0, h, z) for z, h in ends] if ends else [(x0, lh, z0), (x0, lh, z1)]
    sides = [Face([(x1, 0, z0), (x1, 0, z1), *top_right]), Face([(x0, 0, z1), (x0, 0, z0), *top_left])]
    visible = [front] + [side for side in sides if side.faces(canvas.camera)]
    for wall in visible:
        canvas.paint(wall, plan.wall, texture, canvas.front_light if wall is front else canvas.side_light)
    if form == "hip":
        _hip_roof(canvas, x0, x1, depth, height, rise, lambda f, s: canvas.paint(f, colour, cover, s) if f.faces(canvas.camera) else None)
        return visible
    for slab in slabs:
        if slab.faces(canvas.camera):
            light = canvas.front_light if axis == "x" else (canvas.side_light + 0.08)
            canvas.paint(slab, colour, cover, light)
    thick = 0.42 if form == "flat" else 0.24
    edge = (246, 248, 252) if snow else (plan.frame if form != "flat" else plan.roof)
    near = 0 if axis == "z" or canvas.camera.position[0] < (x0 + x1) / 2 else 1
    points = [edge_point(t, h, near) for t, h in profile]
    lines = list(zip(points, points[1:]))
    if axis == "x":
        lines.append((edge_point(*profile[0], 0), edge_point(*profile[0], 1)))
    else:
        end = profile[-1] if canvas.camera.position[0] > (x0 + x1) / 2 else profile[0]
        lines.append((edge_point(*end, 0), edge_point(*end, 1)))
    for start, stop in lines:
        canvas.beam(start, stop, thick, edge, 0.95)
    return visible


def _window(canvas: Canvas, plan: Plan, wall: Face, u, v, w, h, light, lit) -> None:
    kind = plan.house["house_type"]
    f = 0.1
    if kind != "modern" and not plan.open:
        for side in (u - w / 2 - 0.42, u + w / 2 + 0.08):
            canvas.quad(wall, side, v, side + 0.34, v + h, plan.accent, light)
    canvas.quad(wall, u - w / 2 - f, v - f, u + w / 2 + f, v + h + f, plan.frame, light)
    sky = (96, 128, 150) if kind != "modern" else (112, 150, 172)
    canvas.quad(wall, u - w / 2, v, u + w / 2, v + h, _WARM if lit else sky, light, glow=lit)
    if not lit:
        points = canvas.camera.project(wall.at([(u - w / 2, v + h), (u - w / 2, v + h * 0.35), (u + w * 0.2, v + h)]))
        canvas.draw.polygon([tuple(p) for p in points], fill=canvas.lit((178, 204, 218), light))
    bars = {"farmhouse": (2, 3), "modern": (1, 1), "rustic": (2, 2)}[kind]
    columns = bars[0] * (2 if w > 1.6 and kind != "modern" else 1) + (1 if w > 1.6 and kind == "modern" else 0)
    for i in range(1, columns):
        x = u - w / 2 + w * i / columns
        canvas.quad(wall, x - 0.035, v, x + 0.035, v + h, plan.frame, light)
    for i in range(1, bars[1]):
        y = v + h * i / bars[1]
        canvas.quad(wall, u - w / 2, y - 0.03, u + w / 2, y + 0.03, plan.frame, light)
    canvas.quad(wall, u - w / 2 - 0.18, v - 0.24, u + w / 2 + 0.18, v - 0.1, plan.frame, light * 0.9)


def _openings(canvas: Canvas, plan: Plan, wall: Face, front: bool, night: bool, rng) -> None:
    """Windows by bay and floor, and the door in the front."""
    light = canvas.front_light if front else canvas.side_light
    bays = plan.house["bays"] if front else 2
    pitch = wall.width / bays
    modern, glazed = plan.house["house_type"] == "modern", plan.house["material"] == "glass"
    for floor in range(plan.house["floors"]):
        base = floor * plan.storey
        for bay in range(bays):
            u = (bay + 0.5) * pitch
            lit = night and rng.random() < 0.7
            if front and floor == 0 and bay == plan.door_bay:
                _door(canvas, plan, wall, u, light)
            elif glazed and (plan.open or bay % 2 == 0):
                canvas.quad(wall, u - pitch / 2 + 0.06, base + 0.25, u + pitch / 2 - 0.06, base + plan.storey - 0.2, plan.frame, light)
                _window(canvas, plan, wall, u, base + 0.35, pitch - 0.35, plan.storey - 0.65, light, lit)
            elif plan.open:
                w = min(pitch - 0.45, 1.9 if not modern else 2.2)
                _window(canvas, plan, wall, u, base + (0.35 if modern else 0.6), w, 2.2 if modern else 1.7, light, lit)
            elif modern:
                _window(canvas, plan, wall, u, base + 1.75, 1.5, 0.6, light, lit)
            else:
                _window(canvas, plan, wall, u, base + 1.0, 0.75, 1.05, light, lit)


def _door(canvas: Canvas, plan: Plan, wall: Face, u, light) -> None:
    modern = plan.house["house_type"] == "modern"
    w = 0.7 if modern else 0.52
    canvas.quad(wall, u - w - 0.12, 0, u + w + 0.12, 2.3, plan.frame, light)
    canvas.quad(wall, u - w, 0.05, u + w, 2.18, plan.accent, light)
    for i in range(2 if not modern else 0):
        canvas.quad(wall, u - w + 0.14, 0.25 + i * 0.95, u + w - 0.14, 0.95 + i * 0.95, plan.accent * 0.8, light)
    canvas.quad(wall, u + w - 0.2, 0.8 if modern else 1.0, u + w - 0.12, 1.7 if modern else 1.12, (230, 214, 150), light)


def _porch(canvas: Canvas, plan: Plan, snow: bool) -> None:
    """A deck, posts and a roof across the front."""
    x0, x1, z, h = -plan.half, plan.half, -2.0, 2.55
    modern, rustic = (plan.house["house_type"] == kind for kind in ("modern", "rustic"))
    wood = (60, 62, 66) if modern else (plan.wall * 0.8 if rustic else np.array((244, 243, 238)))
    canvas.paint(Face([(x0, 0.22, z), (x1, 0.22, z), (x1, 0.22, 0), (x0, 0.22, 0)]), (176, 150, 118))
    canvas.paint(Face([(x0, 0, z), (x1, 0, z), (x1, 0.22, z), (x0, 0.22, z)]), (128, 106, 82))
    n = max(3, plan.house["bays"] + 1)
    door = -plan.half + (plan.door_bay + 0.5) * plan.width / plan.house["bays"]
    posts = np.linspace(x0 + 0.15, x1 - 0.15, n)
    for a, b in zip(posts, posts[1:]):
        if not modern and not a < door < b:
            canvas.beam((a, 0.95, z), (b, 0.95, z), 0.09, wood)
            for x in np.linspace(a, b, 8)[1:-1]:
                canvas.beam((x, 0.22, z), (x, 0.95, z), 0.05, wood, 0.9)
    for x in posts:
        canvas.beam((x, 0.2, z), (x, h, z), 0.26 if rustic else 0.16, wood)
    lift = 0.0 if modern else 0.75
    roof = Face([(x0 - 0.3, h, z - 0.3), (x1 + 0.3, h, z - 0.3), (x1 + 0.3, h + lift, 0), (x0 - 0.3, h + lift, 0)])
    if lift:
        canvas.paint(roof, (238, 242, 250) if snow else plan.roof, None if snow else shingles, canvas.front_light)
    canvas.beam((x0 - 0.3, h, z - 0.3), (x1 + 0.3, h, z - 0.3), 0.3, wood)
    side = x1 + 0.3 if canvas.camera.position[0] > 0 else x0 - 0.3
    canvas.beam((side, h, z - 0.3), (side, h + lift, 0), 0.2, wood, 0.9)


def _chimney(canvas: Canvas, plan: Plan) -> tuple:
    """Draw the stack (the roof, drawn later, hides its foot); return the place of the smoke."""
    x = 0.0 if plan.axis == "z" and plan.house["roof"] != "hip" else -0.22 * plan.width * plan.garage_side
    z, w, top = plan.depth / 2, 0.5, plan.top + 1.3
    cover = {"farmhouse": brick, "modern": concrete, "rustic": stone}[plan.house["house_type"]]
    colour = {"farmhouse": (158, 84, 66), "modern": (150, 150, 148), "rustic": (146, 140, 132)}[plan.house["house_type"]]
    low = plan.height - 0.5
    for corners, light in (
        ([(x + w, low, z - w), (x + w, low, z + w), (x + w, top, z + w), (x + w, top, z - w)], canvas.side_light),
        ([(x - w, low, z + w), (x - w, low, z - w), (x - w, top, z - w), (x - w, top, z + w)], canvas.side_light),
        ([(x - w, low, z - w), (x + w, low, z - w), (x + w, top, z - w), (x - w, top, z - w)], canvas.front_light),
    ):
        face = Face(corners)
        if face.faces(canvas.camera):
            canvas.paint(face, colour, cover, light)
    canvas.beam((x - w - 0.1, top, z - w), (x + w + 0.1, top, z - w), 0.22, (92, 88, 84))
    return (x, top + 0.2, z)


def _garage(canvas: Canvas, plan: Plan, cover, snow, night, rng) -> None:
    x0 = plan.half if plan.garage_side > 0 else -plan.half - plan.wing
    form = plan.house["roof"] if plan.house["roof"] in ("flat", "shed") else "gable"
    height = 2.9
    walls = _block(canvas, plan, x0, x0 + plan.wing, 0.6, 5.2, height, form, "x" if form != "gable" else "z",
                   {"gable": 1.3, "shed": 0.9}.get(form, 0.0), cover, snow)
    canvas.quad(walls[0], 0.4, 0, plan.wing - 0.4, 2.35, plan.frame, canvas.front_light)
    door = np.array((235, 233, 226)) if plan.house["house_type"] != "modern" else np.array((128, 132, 136))
    for i in range(4):
        canvas.quad(walls[0], 0.5, 0.04 + i * 0.56, plan.wing - 0.5, 0.54 + i * 0.56, door * (0.96 - 0.05 * (i % 2)), canvas.front_light)


def draw_building(canvas: Canvas, plan: Plan, snow: bool, night: bool, rng: np.random.Generator) -> tuple | None:
    """Draw the whole house; return the place of the chimney's smoke, if there is one."""
    house = plan.house
    cover = seams if house["house_type"] == "modern" or house["roof"] == "gambrel" else shingles
    garage_first = house["garage"] and plan.garage_side * canvas.camera.position[0] < 0
    if garage_first:
        _garage(canvas, plan, cover, snow, night, rng)
    smoke = _chimney(canvas, plan) if house["chimney"] else None
    walls = _block(canvas, plan, -plan.half, plan.half, 0.0, plan.depth, plan.height, house["roof"], plan.axis,
                   plan.rise, cover, snow)
    for i, wall in enumerate(walls):
        _openings(canvas, plan, wall, i == 0, night, rng)
    if house["material"] == "logs":
        for x in (-plan.half, plan.half):
            for y in np.arange(0.18, plan.height - 0.1, 0.36):
                canvas.beam((x - 0.16, y, -0.05), (x + 0.16, y, -0.05), 0.3, plan.wall * 1.12)
    if house["garage"] and not garage_first:
        _garage(canvas, plan, cover, snow, night, rng)
    if house["porch"]:
        _porch(canvas, plan, snow)
    return smoke
