"""What walls carry: windows, doors, porch, garage and chimney; and the whole house put together."""

import numpy as np

from imgsearch_utils.drawn_houses.building import Plan, draw_volume
from imgsearch_utils.drawn_houses.painting import Canvas, Face
from imgsearch_utils.drawn_houses.textures import TEXTURES

_BARS = {"farmhouse": (2, 3), "modern": (1, 1), "rustic": (2, 2)}  # panes across and down
_STACKS = {
    "farmhouse": ("brick", (158, 84, 66)),
    "modern": ("concrete", (150, 150, 148)),
    "rustic": ("stone", (146, 140, 132)),
}


def _window(canvas: Canvas, plan: Plan, wall: Face, u, v, w, h, lit) -> None:
    x0, x1, y1 = u - w / 2, u + w / 2, v + h
    if not plan.modern and not plan.open:
        for left in (x0 - 0.42, x1 + 0.08):
            canvas.quad(wall, left, v, left + 0.34, y1, plan.accent)
    canvas.quad(wall, x0 - 0.1, v - 0.1, x1 + 0.1, y1 + 0.1, plan.frame)
    canvas.quad(wall, x0, v, x1, y1, (255, 214, 130) if lit else (100, 134, 156), glow=lit)
    if not lit:
        shine = canvas.camera.project(wall.at([(x0, y1), (x0, v + h * 0.35), (x1 - w * 0.3, y1)]))
        canvas.draw.polygon([tuple(p) for p in shine], fill=canvas.lit((178, 204, 218)))
    across, down = _BARS[plan.kind]
    across = across * 2 if w > 1.6 else across
    for x in np.linspace(x0, x1, across + 1)[1:-1]:
        canvas.quad(wall, x - 0.035, v, x + 0.035, y1, plan.frame)
    for y in np.linspace(v, y1, down + 1)[1:-1]:
        canvas.quad(wall, x0, y - 0.03, x1, y + 0.03, plan.frame)
    canvas.quad(wall, x0 - 0.18, v - 0.24, x1 + 0.18, v - 0.1, plan.frame * 0.9)


def _door(canvas: Canvas, plan: Plan, wall: Face, u) -> None:
    w = 0.7 if plan.modern else 0.52
    canvas.quad(wall, u - w - 0.12, 0, u + w + 0.12, 2.3, plan.frame)
    canvas.quad(wall, u - w, 0.05, u + w, 2.18, plan.accent)
    if not plan.modern:
        for y in (0.25, 1.2):
            canvas.quad(wall, u - w + 0.14, y, u + w - 0.14, y + 0.7, plan.accent * 0.8)
    canvas.quad(wall, u + w - 0.2, 0.9, u + w - 0.12, 1.6 if plan.modern else 1.05, (230, 214, 150))


def _openings(canvas: Canvas, plan: Plan, wall: Face, front: bool, rng) -> None:
    """Windows by bay and floor, large in an open house, and the door in the front."""
    bays = plan.house["bays"] if front else 2
    pitch = wall.width / bays
    for floor in range(plan.house["floors"]):
        base = floor * plan.storey
        for bay in range(bays):
            u, lit = (bay + 0.5) * pitch, plan.night and rng.random() < 0.7
            if front and floor == 0 and bay == plan.door_bay:
                _door(canvas, plan, wall, u)
            elif plan.open and plan.house["material"] == "glass":
                _window(canvas, plan, wall, u, base + 0.3, pitch - 0.3, plan.storey - 0.6, lit)
            elif plan.open:
                v, h = (0.35, 2.2) if plan.modern else (0.6, 1.7)
                _window(canvas, plan, wall, u, base + v, min(pitch - 0.45, 2.1), h, lit)
            elif plan.modern:
                _window(canvas, plan, wall, u, base + 1.75, 1.5, 0.6, lit)
            else:
                _window(canvas, plan, wall, u, base + 1.0, 0.75, 1.05, lit)


def _porch(canvas: Canvas, plan: Plan) -> None:
    """A deck, posts and a roof across the front."""
    x0, x1, z, h, camera = -plan.half, plan.half, -2.0, 2.55, canvas.camera
    wood = plan.wall * 0.8 if plan.kind == "rustic" else plan.frame
    canvas.paint(
        Face([(x0, 0.22, z), (x1, 0.22, z), (x1, 0.22, 0), (x0, 0.22, 0)]), (176, 150, 118)
    )
    canvas.paint(Face([(x0, 0, z), (x1, 0, z), (x1, 0.22, z), (x0, 0.22, z)]), (128, 106, 82))
    posts = np.linspace(x0 + 0.15, x1 - 0.15, max(3, plan.house["bays"] + 1))
    for a, b in zip(posts, posts[1:]):
        if not plan.modern and not a < plan.door < b:
            canvas.beam((a, 0.95, z), (b, 0.95, z), 0.09, wood)
            for x in np.linspace(a, b, 7)[1:-1]:
                canvas.beam((x, 0.22, z), (x, 0.95, z), 0.05, wood * 0.9)
    for x in posts:
        canvas.beam((x, 0.2, z), (x, h, z), 0.26 if plan.kind == "rustic" else 0.16, wood)
    left, right, rear = x0 - 0.3, x1 + 0.3, h if plan.modern else h + 0.75
    if not plan.modern:
        roof = Face([(left, h, z - 0.3), (right, h, z - 0.3), (right, rear, 0), (left, rear, 0)])
        canvas.paint(roof, plan.roof_now, None if plan.snow else TEXTURES["shingles"])
    side = right if camera.position[0] > 0 else left
    canvas.beam((left, h, z - 0.3), (right, h, z - 0.3), 0.3, wood)
    canvas.beam((side, h, z - 0.3), (side, rear, 0), 0.2, wood * 0.9)


def _chimney(canvas: Canvas, plan: Plan) -> tuple[float, float, float]:
    """Draw the stack (the roof, drawn later, hides its foot); return the place of the smoke."""
    x = 0.0 if plan.axis == "z" else -0.22 * plan.width * plan.side
    z, w, top, low = plan.depth / 2, 0.5, plan.top + 1.3, plan.height - 0.5
    material, colour = _STACKS[plan.kind]
    corners = [(x - w, z + w), (x - w, z - w), (x + w, z - w), (x + w, z + w)]
    for (ax, az), (bx, bz) in zip(corners, corners[1:]):
        face = Face([(ax, low, az), (bx, low, bz), (bx, top, bz), (ax, top, az)])
        if face.seen(canvas.camera):
            canvas.paint(face, colour, TEXTURES[material])
    canvas.beam((x - w - 0.1, top, z - w), (x + w + 0.1, top, z - w), 0.22, (92, 88, 84))
    return x, top + 0.2, z


def _garage(canvas: Canvas, plan: Plan) -> None:
    x0 = plan.half if plan.side > 0 else -plan.half - plan.wing
    form = plan.house["roof"] if plan.house["roof"] in ("flat", "shed") else "gable"
    rise = {"gable": 1.3, "shed": 0.9, "flat": 0.0}[form]
    axis = "x" if form == "flat" else "z"
    front = draw_volume(canvas, plan, x0, x0 + plan.wing, 0.6, 5.2, 2.9, form, axis, rise)[0]
    canvas.quad(front, 0.4, 0, plan.wing - 0.4, 2.35, plan.frame)
    door = np.array((128, 132, 136) if plan.modern else (235, 233, 226))
    for i in range(4):
        canvas.quad(
            front,
            0.5,
            0.04 + i * 0.56,
            plan.wing - 0.5,
            0.54 + i * 0.56,
            door * (0.96 - 0.05 * (i % 2)),
        )


def draw_building(
    canvas: Canvas, plan: Plan, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """Draw the whole house; return the place of the chimney's smoke, if there is one."""
    house, behind = plan.house, plan.side * canvas.camera.position[0] < 0
    if house["garage"] and behind:
        _garage(canvas, plan)
    smoke = _chimney(canvas, plan) if house["chimney"] else None
    shape = (plan.height, house["roof"], plan.axis, plan.rise)
    walls = draw_volume(canvas, plan, -plan.half, plan.half, 0.0, plan.depth, *shape)
    for i, wall in enumerate(walls):
        _openings(canvas, plan, wall, i == 0, rng)
    if house["material"] == "logs":
        for x in (-plan.half, plan.half):
            for y in np.arange(0.18, plan.height - 0.1, 0.36):
                canvas.beam((x - 0.16, y, -0.05), (x + 0.16, y, -0.05), 0.3, plan.wall * 1.12)
    if house["garage"] and not behind:
        _garage(canvas, plan)
    if house["porch"]:
        _porch(canvas, plan)
    return smoke
