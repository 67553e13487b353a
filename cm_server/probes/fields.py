"""Building blocks of drawn textures: scalar fields in [0, 1] on a square of pixels. Pure; all chance from ``rng``."""

from __future__ import annotations

import numpy as np
from PIL import Image

Field = np.ndarray
"""float32 ``[S, S]``."""
_TAU = np.float32(2 * np.pi)


def axes(size: int, angle: float = 0.0) -> tuple[Field, Field]:
    """Coordinates of the pixels, 0 to 1 before the turn by ``angle`` (radians) around the middle."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (x - 0.5) * c - (y - 0.5) * s + 0.5, (x - 0.5) * s + (y - 0.5) * c + 0.5


def noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int], octaves: int = 1) -> Field:
    """Smooth noise with about ``cells`` hills a side (rows and columns where two are given), stretched to [0, 1]."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        shape = (min(size, rows * 2**octave + 1), min(size, columns * 2**octave + 1))
        grid = Image.fromarray(rng.random(shape, dtype=np.float32))
        total += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) / 2**octave
    return stretched(total)


def stretched(field: Field) -> Field:
    """The field on the whole range 0 to 1."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def lit(height: Field, strength: float = 6.0) -> Field:
    """A relief lit from the upper left."""
    rows, columns = np.gradient(height)
    return np.clip(0.5 + strength * (rows + columns), 0, 1).astype(np.float32)


def wave(t: Field) -> Field:
    """A sine of period 1, 0 to 1."""
    return 0.5 + 0.5 * np.sin(_TAU * t)


def triangle(t: Field) -> Field:
    """A triangle wave of period 1, 0 to 1."""
    return np.abs(2 * (t - np.floor(t)) - 1)


def lines(t: Field, width: float) -> Field:
    """1 on a line of the given share of the period 1, else 0."""
    return ((t - np.floor(t)) < width).astype(np.float32)


def lattice(u: Field, v: Field, shifted: bool = False) -> tuple[Field, Field]:
    """Place within the cell of a unit lattice, -0.5 to 0.5 each; every second row shifted by half where asked."""
    row = np.floor(v)
    u = u + 0.5 * (row % 2) if shifted else u
    return u - np.floor(u) - 0.5, v - row - 0.5


def cells(rng: np.random.Generator, size: int, count: int) -> tuple[Field, Field, np.ndarray]:
    """Distances to the nearest and second nearest of ``count`` random points, in sides, and which one is nearest."""
    points = rng.random((count, 2), dtype=np.float32)
    x, y = axes(size)
    distances = np.stack([(x - px) ** 2 + (y - py) ** 2 for px, py in points])
    nearest = distances.argmin(axis=0)
    first, second = np.sqrt(np.partition(distances, 1, axis=0)[:2])
    return first, second, nearest


def blobs(rng: np.random.Generator, size: int, count: int, low: float, high: float) -> Field:
    """Random discs, radii between ``low`` and ``high`` sides: 1 in a centre, falling to 0 at the rim and outside."""
    x, y = axes(size)
    found = np.zeros((size, size), dtype=np.float32)
    for px, py, part in rng.random((count, 3), dtype=np.float32):
        radius = low + (high - low) * part
        np.maximum(found, 1 - np.hypot(x - px, y - py) / np.float32(radius), out=found)
    return found
