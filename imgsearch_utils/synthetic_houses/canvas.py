"""A camera that sees planes, and a canvas that paints textured faces in the light of the hour."""

import numpy as np
from PIL import Image, ImageDraw


class Camera:
    """A level pinhole camera on a circle around the house; metres, x right, y up, z away from the street.

    Parameters
    ----------
    yaw : degrees, positive to the right of the house
    height, distance : metres above the ground, and from the pivot (0, 0, `depth`)
    size : side of the square picture in pixels; `centre` is where the pivot falls, as shares of it
    """

    def __init__(self, yaw: float, height: float, distance: float, depth: float, size: int, centre: tuple):
        angle = np.radians(yaw)
        self.size, self.focal = size, 1.35 * size
        self.position = np.array([np.sin(angle) * distance, height, depth - np.cos(angle) * distance])
        self.forward = np.array([-np.sin(angle), 0.0, np.cos(angle)])
        self.right = np.array([np.cos(angle), 0.0, np.sin(angle)])
        self.horizon = centre[1] * size - self.focal * height / distance
        up = np.array([0.0, 1.0, 0.0])
        self.matrix = np.stack([
            self.focal * self.right + centre[0] * size * self.forward,
            -self.focal * up + self.horizon * self.forward,
            self.forward,
        ])

    def project(self, points) -> np.ndarray:
        """Map world points (n, 3) to pixels (n, 2)."""
        seen = (np.asarray(points, float) - self.position) @ self.matrix.T
        return seen[:, :2] / seen[:, 2:]

    def scale(self, point) -> float:
        """Pixels per metre at a world point."""
        return self.focal / max(0.5, float((np.asarray(point, float) - self.position) @ self.forward))


class Face:
    """A flat convex polygon in the world, corners (n, 3) counter-clockwise as seen from outside, the first edge level.

    Its own coordinates are metres: u along the first edge, v square to it.
    """

    def __init__(self, corners):
        self.corners = np.asarray(corners, float)
        self.origin = self.corners[0]
        u = self.corners[1] - self.origin
        self.width = float(np.linalg.norm(u))
        self.u = u / self.width
        v = self.corners[-1] - self.origin
        v = v - (v @ self.u) * self.u
        self.v = v / np.linalg.norm(v)

    def faces(self, camera: Camera) -> bool:
        """Tell whether the outer side looks at the camera."""
        return float(np.cross(self.v, self.u) @ (camera.position - self.origin)) > 0

    def at(self, uv) -> np.ndarray:
        """World points (n, 3) of own coordinates (n, 2)."""
        uv = np.asarray(uv, float)
        return self.origin + uv[:, :1] * self.u + uv[:, 1:] * self.v


class Canvas:
    """A picture under way: colours are given as by daylight and painted in the hour's tint, 3 factors."""

    def __init__(self, camera: Camera, tint, sun_right: bool):
        self.camera, self.tint = camera, np.asarray(tint, np.float32)
        self.image = Image.new("RGB", (camera.size, camera.size))
        self.draw = ImageDraw.Draw(self.image)
        self.side_light = 0.72 if (camera.position[0] > 0) != sun_right else 0.92
        self.front_light = 1.64 - self.side_light if self.side_light > 0.8 else 1.0
        self.glows = []

    def lit(self, colour, light: float = 1.0) -> tuple:
        """Daylight colour to the hour's."""
        return tuple(int(c) for c in np.clip(np.asarray(colour) * self.tint * light, 0, 255))

    def paint(self, face: Face, colour, texture=None, light: float = 1.0) -> None:
        """Fill a face; `texture` maps (u, v), metres, to factors of the colour."""
        outline = self.camera.project(face.corners)
        if texture is None:
            self.draw.polygon([tuple(p) for p in outline], fill=self.lit(colour, light))
        else:
            self.paint_screen(face, outline, colour, texture, light)

    def paint_screen(self, face: Face, outline, colour, texture, light: float = 1.0) -> None:
        """Fill the pixels inside `outline` (n, 2) with the texture of the plane of the face."""
        low = np.clip(np.floor(np.min(outline, 0)), 0, self.camera.size).astype(int)
        high = np.clip(np.ceil(np.max(outline, 0)) + 1, 0, self.camera.size).astype(int)
        width, height = high - low
        if width <= 0 or height <= 0:
            return
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon([tuple(p - low) for p in np.asarray(outline)], fill=255)
        to_screen = self.camera.matrix @ np.stack([face.u, face.v, face.origin - self.camera.position], axis=1)
        m = np.linalg.inv(to_screen).astype(np.float32)
        x = np.arange(low[0], high[0], dtype=np.float32)[None, :] + 0.5
        y = np.arange(low[1], high[1], dtype=np.float32)[:, None] + 0.5
        w = 1 / (m[2, 0] * x + m[2, 1] * y + m[2, 2])
        factors = texture((m[0, 0] * x + m[0, 1] * y + m[0, 2]) * w, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * w)
        factors = factors if factors.ndim == 3 else factors[:, :, None]
        pixels = factors * (np.asarray(colour, np.float32) * self.tint * np.float32(light))
        self.image.paste(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), tuple(low), mask)

    def quad(self, face: Face, u0, v0, u1, v1, colour, light: float = 1.0, glow: bool = False) -> None:
        """Fill a rectangle in the coordinates of a face; what glows keeps its colour at night."""
        points = [tuple(p) for p in self.camera.project(face.at([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]))]
        if glow:
            self.glows.append((points, colour))
        self.draw.polygon(points, fill=tuple(colour) if glow else self.lit(colour, light))

    def beam(self, a, b, thickness: float, colour, light: float = 1.0) -> None:
        """Draw a straight beam between two world points, `thickness` in metres."""
        width = max(1, round(thickness * self.camera.scale((np.asarray(a) + np.asarray(b)) / 2)))
        self.draw.line([tuple(p) for p in self.camera.project([a, b])], fill=self.lit(colour, light), width=width)


def cells(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Fixed random numbers in [0, 1) for integer cells."""
    h = i.astype(np.int32).view(np.uint32) * np.uint32(374761393) + j.astype(np.int32).view(np.uint32) * np.uint32(668265263)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def _rows(v, step, dark=0.72, joint=0.14):
    return np.where((v / step) % 1 < joint, np.float32(dark), np.float32(1))


def _blocks(u, v, width, height, joint, spread, mortar, shift=0.5):
    row = np.floor(v / height)
    across = u / width + row * shift + (cells(row, row * 0) * 0.6 if shift != 0.5 else 0)
    column = np.floor(across)
    shade = 1 - spread / 2 + spread * cells(column, row)
    edge = (v / height - row < joint) | (across - column < joint * height / width)
    return np.where(edge, np.float32(mortar), shade)


def siding(u, v):
    return _rows(v, 0.24) * (0.94 + 0.1 * ((v / 0.24) % 1))


def boards(u, v):
    return np.where((u / 0.42) % 1 < 0.16, np.float32(0.66), 0.93 + 0.12 * cells(np.floor(u / 0.42), np.floor(v / 9)))


def brick(u, v):
    return _blocks(u, v, 0.36, 0.14, 0.2, 0.34, 1.28)


def stone(u, v):
    bent = v + 0.06 * np.sin(u * 4.1) + 0.04 * np.sin(u * 9.7)
    return _blocks(u + 0.08 * np.sin(v * 6), bent, 0.72, 0.42, 0.13, 0.55, 0.6, shift=0.37)


def logs(u, v):
    part = (v / 0.36) % 1
    grain = 0.1 * cells(np.floor(u / 0.5), np.floor(v / 0.045))
    return 0.45 + 0.6 * np.sqrt(np.maximum(0, 4 * part * (1 - part))) + grain


def stucco(u, v):
    return 0.95 + 0.08 * cells(np.floor(u / 0.09), np.floor(v / 0.09))


def concrete(u, v):
    seam = ((u / 1.8) % 1 < 0.025) | ((v / 1.4) % 1 < 0.03)
    holes = (np.abs((u / 0.9) % 1 - 0.5) < 0.05) & (np.abs((v / 0.7) % 1 - 0.5) < 0.06)
    return np.where(seam | holes, np.float32(0.6), 0.9 + 0.14 * cells(np.floor(u / 1.8), np.floor(v / 1.4)))


def glass(u, v):
    return 0.85 + 0.3 * (((u + 0.8 * v) / 3) % 1)


def shingles(u, v):
    return _blocks(u, v, 0.5, 0.34, 0.16, 0.3, 0.68)


def seams(u, v):
    return np.where((u / 0.6) % 1 < 0.12, np.float32(0.74), np.float32(1.0))


WALLS = {f.__name__: f for f in (siding, boards, brick, stone, logs, stucco, concrete, glass)}
