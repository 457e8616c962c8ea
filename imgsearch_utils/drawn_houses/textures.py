"""Materials: each maps own coordinates of a face, (u, v) in metres, to factors of its colour, same
shape.
"""

import numpy as np


def cells(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Fixed random numbers in [0, 1) for whole-numbered cells."""
    i, j = (np.asarray(k).astype(np.int32).view(np.uint32) for k in (i, j))
    h = i * np.uint32(374761393) + j * np.uint32(668265263)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def grid(u, v, du: float, dv: float) -> np.ndarray:
    """Random numbers in [0, 1), one for each `du` x `dv` metres."""
    return cells(np.floor(u / du), np.floor(v / dv))


def _blocks(u, v, width, height, joint, spread, mortar, shift=0.5):
    """Courses of blocks, each course shifted; `joint` as a share of the height."""
    row = np.floor(v / height)
    across = u / width + row * shift
    column = np.floor(across)
    edge = (v / height - row < joint) | (across - column < joint * height / width)
    return np.where(edge, np.float32(mortar), 1 - spread / 2 + spread * cells(column, row))


def _siding(u, v):
    part = (v / 0.24) % 1
    return np.where(part < 0.14, np.float32(0.72), 0.94 + 0.1 * part)


def _boards(u, v):
    return np.where((u / 0.42) % 1 < 0.16, np.float32(0.66), 0.93 + 0.12 * grid(u, v, 0.42, 9))


def _stone(u, v):
    bent = v + 0.06 * np.sin(u * 4.1) + 0.04 * np.sin(u * 9.7)
    return _blocks(u + 0.08 * np.sin(v * 6), bent, 0.72, 0.42, 0.13, 0.55, 0.6, shift=0.37)


def _logs(u, v):
    part = (v / 0.36) % 1
    return 0.45 + 0.6 * np.sqrt(4 * part * (1 - part)) + 0.1 * grid(u, v, 0.5, 0.045)


def _concrete(u, v):
    seam = ((u / 1.8) % 1 < 0.025) | ((v / 1.4) % 1 < 0.03)
    holes = (np.abs((u / 0.9) % 1 - 0.5) < 0.05) & (np.abs((v / 0.7) % 1 - 0.5) < 0.06)
    return np.where(seam | holes, np.float32(0.6), 0.9 + 0.14 * grid(u, v, 1.8, 1.4))


TEXTURES = {
    "siding": _siding,
    "boards": _boards,
    "brick": lambda u, v: _blocks(u, v, 0.36, 0.14, 0.2, 0.34, 1.28),
    "stone": _stone,
    "logs": _logs,
    "stucco": lambda u, v: 0.94 + 0.1 * grid(u, v, 0.09, 0.09),
    "concrete": _concrete,
    "glass": lambda u, v: np.where(
        (u / 1.35) % 1 < 0.06, np.float32(0.4), 0.85 + 0.3 * (((u + 0.8 * v) / 3) % 1)
    ),
    "shingles": lambda u, v: _blocks(u, v, 0.5, 0.34, 0.16, 0.3, 0.68),
    "seams": lambda u, v: np.where((u / 0.6) % 1 < 0.12, np.float32(0.74), np.float32(1)),
}
