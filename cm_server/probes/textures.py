"""The 47 textures of the Describable Textures Dataset (Cimpoi et al. 2014), drawn: each name a formula, no photograph.

They stand for the words in a set that may be built anywhere; a photograph of a real cobweb is a harder one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cm_server.probes import fields as f
from cm_server.probes.fields import Field

Draw = Callable[[np.random.Generator, int], Field]


def _turned(rng: np.random.Generator, size: int, low: float, high: float) -> tuple[Field, Field]:
    """Axes turned at random, scaled to between ``low`` and ``high`` periods a side."""
    u, v = f.axes(size, rng.uniform(0, np.pi))
    periods = np.float32(rng.uniform(low, high))
    return u * periods, v * periods


def _upright(rng: np.random.Generator, size: int, low: float, high: float) -> tuple[Field, Field]:
    u, v = f.axes(size, rng.uniform(-0.2, 0.2))
    periods = np.float32(rng.uniform(low, high))
    return u * periods, v * periods


def _warped(rng: np.random.Generator, size: int, low: float, high: float, by: float, cells: int = 4) -> Field:
    u, _ = _turned(rng, size, low, high)
    return u + np.float32(by) * f.noise(rng, size, cells)


def _dots(u: Field, v: Field, radius: float, shifted: bool = True) -> Field:
    a, b = f.lattice(u, v, shifted)
    return (np.hypot(a, b) < radius).astype(np.float32)


def _banded(rng, size):
    return f.stretched(np.round(4 * f.noise(rng, size, (int(rng.integers(5, 9)), 1))))


def _braided(rng, size):
    u, v = _upright(rng, size, 3, 5)
    strand = np.maximum(f.wave(u + 0.25 * np.sin(6.28 * v)), f.wave(u + 0.5 - 0.25 * np.sin(6.28 * v)))
    return f.stretched(strand * (0.6 + 0.4 * f.wave(4 * v)))


def _bubbly(rng, size):
    discs = f.blobs(rng, size, 60, 0.04, 0.13)
    return f.stretched(0.3 + 0.7 * np.exp(-((discs - 0.12) ** 2) / 0.01) + 0.5 * (discs > 0.7))


def _chequered(rng, size):
    u, v = _upright(rng, size, 5, 9)
    return ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)


def _cobwebbed(rng, size):
    x, y = f.axes(size)
    x, y = x - np.float32(rng.uniform(0.3, 0.7)), y - np.float32(rng.uniform(0.3, 0.7))
    turn, radius = np.arctan2(y, x) / 6.2832, np.hypot(x, y)
    spokes = int(rng.integers(10, 18))
    rings = f.lines(radius * 14 * (1 - 0.12 * f.triangle(turn * spokes)), 0.12)
    return np.maximum(f.lines(turn * spokes, 0.06), rings)


def _cracked(rng, size):
    first, second, _ = f.cells(rng, size, 30)
    return f.stretched(np.minimum(second - first, 0.02)) * (0.7 + 0.3 * f.noise(rng, size, 20))


def _crosshatched(rng, size):
    first, second = (f.lines(f.axes(size, a)[0] * 34 + 0.6 * f.noise(rng, size, 6), 0.3) for a in (0.7, 2.3))
    return f.stretched(first + second)


def _crystalline(rng, size):
    first, second, nearest = f.cells(rng, size, 45)
    shade = rng.random(45, dtype=np.float32)[nearest]
    x, y = f.axes(size)
    return f.stretched(shade + 0.5 * f.wave(shade * 7 + x * (shade - 0.5) * 6 + y * shade * 4) * (second > first))


def _fibrous(rng, size):
    return f.stretched(f.noise(rng, size, (100, 4)) + 0.5 * f.noise(rng, size, (60, 2)))


def _frilly(rng, size):
    _, v = _upright(rng, size, 4, 6)
    u, _ = f.axes(size)
    return f.wave(v + 0.35 * np.sin(6.28 * 7 * u + 3 * f.noise(rng, size, 3)))


def _honeycombed(rng, size):
    u, v = _upright(rng, size, 7, 10)
    tall = np.float32(3**0.5)  # two rectangular lattices, one in the middle of the other's cells
    near = [f.lattice(u + shift, v / tall + shift) for shift in (0.0, 0.5)]
    first, second = (np.hypot(a, b * tall) for a, b in near)
    a = np.abs(np.where(first < second, near[0][0], near[1][0]))
    b = np.abs(np.where(first < second, near[0][1], near[1][1])) * tall
    return (np.maximum(a, 0.5 * a + 0.866 * b) > 0.43).astype(np.float32)


def _weave(u: Field, v: Field) -> Field:
    over = (np.floor(u) + np.floor(v)) % 2
    a, b = f.lattice(u, v)
    return np.where(over > 0, np.cos(3.1 * a) * (0.75 + 0.25 * np.cos(3.1 * b)), np.cos(3.1 * b) * 0.8)


def _knitted(rng, size):
    u, v = _upright(rng, size, 9, 12)
    return f.wave(v + 0.8 * f.triangle(u)) * (0.4 + 0.6 * np.sqrt(f.triangle(u + 0.5)))


def _lacelike(rng, size):
    u, v = _upright(rng, size, 5, 7)
    a, b = f.lattice(u, v, True)
    radius, turn = np.hypot(a, b), np.arctan2(b, a)
    return ((np.abs(radius - 0.32 - 0.07 * np.cos(6 * turn)) < 0.06) | (radius < 0.1)).astype(np.float32)


def _matted(rng, size):
    parts = [np.asarray(np.rot90(f.noise(rng, size, (90, 6)), k)) for k in range(2)]
    return f.stretched(np.maximum(parts[0], parts[1]) + 0.4 * _warped(rng, size, 20, 30, 4) % 1)


def _meshed(rng, size):
    u, v = f.axes(size, 0.785 + rng.uniform(-0.1, 0.1))
    return _grid(u * 12, v * 12, 0.25)


def _paisley(rng, size):
    u, v = _upright(rng, size, 4, 5)
    a, b = f.lattice(u, v, True)
    bend = a + 0.9 * b * b
    drop = np.hypot(bend, b * 0.8) - 0.22 * (1 - 1.2 * b)
    return f.stretched(f.wave(drop * 5)) * (drop < 0.12) + 0.5 * (drop >= 0.12)


def _scaly(rng, size):
    u, v = _upright(rng, size, 7, 10)
    a, b = f.lattice(u, v, True)
    return f.stretched(np.where(np.hypot(a, b + 0.5) < 0.52, 1 - np.hypot(a, b + 0.5), 0.15 + 0.2 * (b + 0.5)))


def _spiralled(rng, size):
    x, y = f.axes(size)
    x, y = x - np.float32(rng.uniform(0.4, 0.6)), y - np.float32(rng.uniform(0.4, 0.6))
    arms = int(rng.integers(1, 4))
    return f.wave(arms * np.arctan2(y, x) / 6.2832 + np.hypot(x, y) * np.float32(rng.uniform(6, 10)))


def _sprinkled(rng, size):
    canvas = np.full((size, size), 0.1, dtype=np.float32)
    for px, py, turn, shade in rng.random((160, 4)):
        along = np.linspace(-0.02, 0.02, 14)
        rows = ((py + along * np.sin(6.3 * turn)) * size).astype(int) % (size - 2)
        columns = ((px + along * np.cos(6.3 * turn)) * size).astype(int) % (size - 2)
        for dr in (0, 1, 2):
            canvas[rows + dr, columns] = canvas[rows + dr, columns + 1] = 0.4 + 0.6 * shade
    return canvas


def _stained(rng, size):
    spots = f.blobs(rng, size, 9, 0.08, 0.3) + 0.15 * f.noise(rng, size, 8)
    return f.stretched(1 - 0.5 * (spots > 0.15) - 0.35 * np.exp(-((spots - 0.17) ** 2) / 0.001))


def _studded(rng, size):
    a, b = f.lattice(*_upright(rng, size, 6, 9))
    return f.lit(np.maximum(0, 0.09 - a * a - b * b), 30)


def _swirly(rng, size):
    x, y = f.axes(size)
    bend_x, bend_y = f.noise(rng, size, 3), f.noise(rng, size, 3)
    return f.wave(6 * np.hypot(x + 0.5 * bend_x - 0.7, y + 0.5 * bend_y - 0.7) + 2 * bend_x)


def _waffled(rng, size):
    u, v = _upright(rng, size, 6, 8)
    return f.lit(np.minimum(f.triangle(u), f.triangle(v)), 5)


def _ridges(rng, size, cells: int) -> Field:
    return 1 - np.abs(2 * f.noise(rng, size, cells, 3) - 1)


def _grid(u: Field, v: Field, width: float) -> Field:
    return np.maximum(f.lines(u, width), f.lines(v, width))


TEXTURES: dict[str, Draw] = {
    "banded": _banded,
    "blotchy": lambda rng, size: f.stretched(np.clip(f.noise(rng, size, 6, 2) * 5 - 2, 0, 1)),
    "braided": _braided,
    "bubbly": _bubbly,
    "bumpy": lambda rng, size: f.lit(f.noise(rng, size, 12), 8),
    "chequered": _chequered,
    "cobwebbed": _cobwebbed,
    "cracked": _cracked,
    "crosshatched": _crosshatched,
    "crystalline": _crystalline,
    "dotted": lambda rng, size: _dots(*_upright(rng, size, 14, 20), 0.2),
    "fibrous": _fibrous,
    "flecked": lambda rng, size: (f.noise(rng, size, (60, 30)) > 0.68).astype(np.float32),
    "freckled": lambda rng, size: f.stretched(np.minimum(f.blobs(rng, size, 120, 0.006, 0.022), 0.4)),
    "frilly": _frilly,
    "gauzy": lambda rng, size: 0.4 + 0.2 * _grid(*_upright(rng, size, 50, 60), 0.5) + 0.4 * f.noise(rng, size, 3),
    "grid": lambda rng, size: _grid(*_upright(rng, size, 7, 12), 0.12),
    "grooved": lambda rng, size: (t := _warped(rng, size, 9, 14, 0.3)) - np.floor(t),
    "honeycombed": _honeycombed,
    "interlaced": lambda rng, size: f.stretched(_weave(*_turned(rng, size, 6, 8))),
    "knitted": _knitted,
    "lacelike": _lacelike,
    "lined": lambda rng, size: f.lines(_turned(rng, size, 14, 24)[0], 0.2),
    "marbled": lambda rng, size: f.wave(_warped(rng, size, 2, 4, 3, 4) + f.noise(rng, size, 8, 3)) ** 3,
    "matted": _matted,
    "meshed": _meshed,
    "paisley": _paisley,
    "perforated": lambda rng, size: 0.85 * (1 - _dots(*_upright(rng, size, 9, 13), 0.28, False)),
    "pitted": lambda rng, size: f.lit(-f.blobs(rng, size, 130, 0.015, 0.04), 5),
    "pleated": lambda rng, size: f.triangle(_upright(rng, size, 6, 10)[0] + 0.15 * f.noise(rng, size, 2)),
    "polka-dotted": lambda rng, size: _dots(*_upright(rng, size, 5, 8), 0.3),
    "porous": lambda rng, size: f.stretched(np.minimum(f.noise(rng, size, 28), 0.45)),
    "potholed": lambda rng, size: f.stretched(
        0.2 * f.noise(rng, size, 60) - np.clip(4 * f.blobs(rng, size, 7, 0.08, 0.2) - 0.5, 0, 0.8)
    ),
    "scaly": _scaly,
    "smeared": lambda rng, size: f.noise(rng, size, (3, 25)).T.copy(),
    "spiralled": _spiralled,
    "sprinkled": _sprinkled,
    "stained": _stained,
    "stratified": lambda rng, size: f.wave(
        f.axes(size, 0.1)[1] * 7 + 0.5 * f.noise(rng, size, 3) + f.noise(rng, size, (18, 1))
    ),
    "striped": lambda rng, size: f.lines(_turned(rng, size, 4, 8)[0], 0.5),
    "studded": _studded,
    "swirly": _swirly,
    "veined": lambda rng, size: _ridges(rng, size, 4) ** 12,
    "waffled": _waffled,
    "woven": lambda rng, size: f.stretched(_weave(*_upright(rng, size, 16, 22))),
    "wrinkled": lambda rng, size: f.lit(_ridges(rng, size, 7), 3),
    "zigzagged": lambda rng, size: f.lines(
        _upright(rng, size, 6, 8)[1] + f.triangle(f.axes(size)[0] * np.float32(rng.uniform(4, 6))), 0.5
    ),
}
"""DTD's names in their order, each with its formula."""


def draw_texture(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture of a texture in two colours of its own, with a little light and dark over it.

    Args:
        name: one of `TEXTURES`.
        size: height and width.
        rng: all chance there is.

    Returns:
        uint8 ``[size, size, 3]``.
    """
    field = np.clip(TEXTURES[name](rng, size), 0, 1)[..., None]
    first, second = _two_colours(rng)
    light = 0.8 + 0.3 * f.noise(rng, size, 2)[..., None]
    picture = (first + (second - first) * field) * light + rng.normal(0, 3, (size, size, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two colours of clearly different brightness."""
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(130, 255, 3)
    return (dark, bright) if rng.random() < 0.7 else (bright, dark)
