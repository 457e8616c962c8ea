"""A camera, flat faces in the world, and a canvas that paints them in the light of the hour."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


class Camera:
    """A level pinhole camera on a circle around the house; metres, x right, y up, z away from the
    street.

    Parameters
    ----------
    yaw : degrees, positive to the right of the house
    height, distance : metres above the ground, and from the pivot (0, 0, `depth`)
    size : side of the square picture in pixels
    centre : where the pivot falls, as shares of the picture
    """

    def __init__(
        self, yaw: float, height: float, distance: float, depth: float, size: int, centre: tuple
    ):
        sin, cos = np.sin(np.radians(yaw)), np.cos(np.radians(yaw))
        self.size, self.focal = size, 1.35 * size
        self.position = np.array([sin * distance, height, depth - cos * distance])
        self.horizon = centre[1] * size - self.focal * height / distance
        self.forward, right, up = (
            np.array([-sin, 0, cos]),
            np.array([cos, 0, sin]),
            np.array([0, 1, 0]),
        )
        across = self.focal * right + centre[0] * size * self.forward
        self.matrix = np.stack(
            [across, -self.focal * up + self.horizon * self.forward, self.forward]
        )

    def project(self, points) -> np.ndarray:
        """Map world points (n, 3) to pixels (n, 2)."""
        seen = (np.asarray(points, float) - self.position) @ self.matrix.T
        return seen[:, :2] / seen[:, 2:]

    def spot(self, x: float, z: float) -> tuple[float, float, float]:
        """Pixel x and y of a place on the ground, and pixels per metre there."""
        px, py = self.project([(x, 0, z)])[0]
        return float(px), float(py), self.scale((x, 0, z))

    def scale(self, point) -> float:
        """Pixels per metre at a world point."""
        return self.focal / max(
            0.5, float((np.asarray(point, float) - self.position) @ self.forward)
        )


class Face:
    """A flat convex polygon, corners (n, 3) counter-clockwise as seen from outside, the first edge
    level.

    Its own coordinates are metres: u along the first edge, v square to it.
    """

    def __init__(self, corners):
        self.corners = np.asarray(corners, float)
        self.origin = self.corners[0]
        u, v = self.corners[1] - self.origin, self.corners[-1] - self.origin
        self.width = float(np.linalg.norm(u))
        self.u = u / self.width
        v = v - (v @ self.u) * self.u
        self.v = v / np.linalg.norm(v)
        self.normal = np.cross(self.v, self.u)

    def seen(self, camera: Camera) -> bool:
        """Tell whether the outer side looks at the camera."""
        return float(self.normal @ (camera.position - self.origin)) > 0

    def at(self, uv) -> np.ndarray:
        """World points (n, 3) of own coordinates (n, 2)."""
        uv = np.asarray(uv, float)
        return self.origin + uv[:, :1] * self.u + uv[:, 1:] * self.v


class Canvas:
    """A picture under way: colours are given as by daylight and painted in the hour's tint, three
    factors.
    """

    def __init__(self, camera: Camera, tint, sun_in_front: bool):
        self.camera, self.tint = camera, np.asarray(tint, np.float32)
        self.image = Image.new("RGB", (camera.size, camera.size))
        self.draw = ImageDraw.Draw(self.image)
        self.front_light, self.side_light = (1.0, 0.72) if sun_in_front else (0.78, 0.98)
        self.glows = []

    def lit(self, colour, light: float = 1.0) -> tuple:
        """The hour's colour of a daylight colour."""
        return tuple(int(c) for c in np.clip(np.asarray(colour) * self.tint * light, 0, 255))

    def light(self, face: Face) -> float:
        """How much of the sun a face gets."""
        return self.side_light if abs(face.normal[0]) > abs(face.normal[2]) else self.front_light

    def paint(self, face: Face, colour, texture=None, outline=None) -> None:
        """Fill a face, or the pixels inside `outline` (n, 2) of its plane; `texture` as in
        ``textures``.
        """
        outline = self.camera.project(face.corners) if outline is None else np.asarray(outline)
        if texture is None:
            self.draw.polygon([tuple(p) for p in outline], fill=self.lit(colour, self.light(face)))
            return
        low, high = np.clip([outline.min(0), outline.max(0) + 2], 0, self.camera.size).astype(int)
        if (high <= low).any():
            return
        mask = Image.new("L", tuple(high - low))
        ImageDraw.Draw(mask).polygon([tuple(p - low) for p in outline], fill=255)
        to_screen = self.camera.matrix @ np.stack(
            [face.u, face.v, face.origin - self.camera.position], axis=1
        )
        m = np.linalg.inv(to_screen).astype(np.float32)
        x = np.arange(low[0], high[0], dtype=np.float32)[None, :] + 0.5
        y = np.arange(low[1], high[1], dtype=np.float32)[:, None] + 0.5
        u, v, w = (row[0] * x + row[1] * y + row[2] for row in m)
        factors = texture(u / w, v / w)
        factors = factors if factors.ndim == 3 else factors[:, :, None]
        pixels = factors * (
            np.asarray(colour, np.float32) * self.tint * np.float32(self.light(face))
        )
        self.image.paste(
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), tuple(low), mask
        )

    def quad(self, face: Face, u0, v0, u1, v1, colour, glow: bool = False) -> None:
        """Fill a rectangle in the coordinates of a face; what glows keeps its colour at night."""
        points = [
            tuple(p) for p in self.camera.project(face.at([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]))
        ]
        self.draw.polygon(points, fill=colour if glow else self.lit(colour, self.light(face)))
        if glow:
            self.glows.append(points)

    def beam(self, a, b, thickness: float, colour) -> None:
        """Draw a straight beam between two world points, `thickness` in metres."""
        width = max(1, round(thickness * self.camera.scale((np.asarray(a) + np.asarray(b)) / 2)))
        self.draw.line(
            [tuple(p) for p in self.camera.project([a, b])], fill=self.lit(colour), width=width
        )

    def disc(self, x, y, rx, ry, colour) -> None:
        """Fill an ellipse around a pixel."""
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)

    def haze(self, shapes, colour, blur: float, strength: float = 1.0) -> None:
        """Lay soft polygons over the picture: `shapes` are (points in pixels, opacity of 255)."""
        small = Image.new("L", (self.camera.size // 8, self.camera.size // 8))
        pen = ImageDraw.Draw(small)
        for points, opacity in shapes:
            pen.polygon([(px / 8, py / 8) for px, py in points], fill=int(opacity * strength))
        mask = small.filter(ImageFilter.GaussianBlur(blur)).resize(
            self.image.size, Image.Resampling.BICUBIC
        )
        self.image.paste(colour, (0, 0), mask)


def puff(x: float, y: float, rx: float, ry: float) -> list[tuple[float, float]]:
    """An ellipse as a polygon, for `Canvas.haze`."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return list(zip((x + rx * np.cos(angles)).tolist(), (y + ry * np.sin(angles)).tolist()))
