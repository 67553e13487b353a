"""``generated``: twenty classes of coloured textures and shapes, drawn here, so that the demo runs everywhere.

Each class is a rule over pixel coordinates with random phase, scale, angle, hue and contrast. A third of the pictures
take a random hue (colour alone does not give the class away), and all carry noise, uneven light and a blob of clutter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cm_client.examples.demo_data.dataset import DemoData, DemoDataError, channel_statistics

PER_CLASS = 400
TEST_PER_CLASS = 60
# Set so that a ResNet-8 needs a few hundred steps for 80 %: with less it is learnt within fifty.
NOISE = 0.1
OTHER_HUE = 0.35

Grid = np.ndarray
Rule = Callable[[Grid, Grid, np.random.Generator], Grid]


def _wave(x: Grid, period: float, rng: np.random.Generator) -> Grid:
    return 0.5 + 0.5 * np.sin(2 * np.pi * (x / period + rng.random()))


def _turned(x: Grid, y: Grid, rng: np.random.Generator, spread: float = np.pi) -> tuple[Grid, Grid]:
    angle = rng.uniform(-spread, spread)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _cloud(x: Grid, y: Grid, rng: np.random.Generator, longest: float = 1.2, waves: int = 6) -> Grid:
    total = np.zeros_like(x)
    for index in range(waves):
        turned, _ = _turned(x, y, rng)
        total += _wave(turned, longest / 1.5**index, rng) / 1.4**index
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def _cells(x: Grid, y: Grid, period: float, rng: np.random.Generator) -> tuple[Grid, Grid]:
    return (x / period + rng.random()) % 1 - 0.5, (y / period + rng.random()) % 1 - 0.5


def _striped(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return _wave(_turned(x, y, rng, 0.3)[0], rng.uniform(0.15, 0.4), rng) > 0.5


def _banded(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return _wave(_turned(y, x, rng, 0.3)[0], rng.uniform(0.15, 0.4), rng) > 0.5


def _dotted(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _cells(*_turned(x, y, rng), rng.uniform(0.25, 0.45), rng)
    return np.hypot(u, v) < rng.uniform(0.22, 0.34)


def _checkered(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _cells(*_turned(x, y, rng, 0.4), rng.uniform(0.3, 0.6), rng)
    return (u > 0) ^ (v > 0)


def _grid(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _cells(*_turned(x, y, rng, 0.4), rng.uniform(0.2, 0.45), rng)
    return np.minimum(np.abs(u), np.abs(v)) < 0.13


def _zigzag(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    bend = np.abs((x / rng.uniform(0.3, 0.5) + rng.random()) % 1 - 0.5) * rng.uniform(0.3, 0.5)
    return _wave(y + bend, rng.uniform(0.18, 0.35), rng) > 0.5


def _woven(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _cells(x, y, rng.uniform(0.25, 0.5), rng)
    over = (u > 0) ^ (v > 0)
    return np.where(over, 0.5 + 0.5 * np.cos(4 * np.pi * u), 0.5 + 0.5 * np.cos(4 * np.pi * v)) * np.where(over, 1, 0.7)


def _bricks(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    height = rng.uniform(0.18, 0.32)
    row = np.floor(y / height + rng.random())
    u = (x / (2.2 * height) + 0.5 * (row % 2) + rng.random()) % 1
    v = (y / height) % 1
    return np.where((u < 0.1) | (v < 0.2), 0.1, 0.75 + 0.2 * _cloud(x, y, rng, 0.4, 3))


def _grain(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return _wave(x + 0.25 * _cloud(x / 2, y / 4, rng, 1.0, 3), rng.uniform(0.1, 0.2), rng) ** 0.7


def _marbled(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return np.clip(np.abs(_cloud(x, y, rng) - 0.5) * rng.uniform(4, 8), 0, 1)


def _cloudy(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return _cloud(x, y, rng, 1.6, 3)


def _waving(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return _wave(y + 0.06 * np.sin(2 * np.pi * x / rng.uniform(0.3, 0.6)), rng.uniform(0.2, 0.4), rng)


def _starry(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    points = rng.uniform(-0.5, 0.5, (int(rng.integers(8, 25)), 2))
    near = np.min([np.hypot(x - px, y - py) for px, py in points], axis=0)
    return np.exp(-((near / 0.035) ** 2))


def _graded(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return np.clip(_turned(x, y, rng)[0] * rng.uniform(0.8, 1.2) + 0.5, 0, 1)


def _ringed(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return (
        _wave(np.hypot(x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)), rng.uniform(0.15, 0.3), rng) > 0.5
    )


def _spiral(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)
    turns = np.hypot(u, v) / rng.uniform(0.2, 0.35) + rng.choice((-1, 1)) * np.arctan2(v, u) / (2 * np.pi)
    return _wave(turns, 1.0, rng) > 0.5


def _moved(x: Grid, y: Grid, rng: np.random.Generator, spread: float) -> tuple[Grid, Grid]:
    return _turned(x - rng.uniform(-0.18, 0.18), y - rng.uniform(-0.18, 0.18), rng, spread)


def _disc(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    return np.hypot(*_moved(x, y, rng, 0)) < rng.uniform(0.18, 0.34)


def _square(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _moved(x, y, rng, 0.5)
    return np.maximum(np.abs(u), np.abs(v)) < rng.uniform(0.18, 0.3)


def _triangle(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _moved(x, y, rng, 0.4)
    side = rng.uniform(0.28, 0.42)
    return (v < side * 0.6) & (v > 1.9 * np.abs(u) - side)


def _cross(x: Grid, y: Grid, rng: np.random.Generator) -> Grid:
    u, v = _moved(x, y, rng, 0.5)
    arm, half = rng.uniform(0.25, 0.38), rng.uniform(0.06, 0.1)
    inside = np.maximum(np.abs(u), np.abs(v)) < arm
    return (np.minimum(np.abs(u), np.abs(v)) < half) & inside


# name: (rule, hue 0..1 of the figure, saturation, hue of the ground)
CLASSES: dict[str, tuple[Rule, float, float, float]] = {
    "red stripes": (_striped, 0.0, 0.9, 0.1),
    "blue bands": (_banded, 0.62, 0.9, 0.55),
    "yellow dots": (_dotted, 0.15, 0.9, 0.75),
    "black and white checks": (_checkered, 0.0, 0.05, 0.0),
    "green grid": (_grid, 0.33, 0.8, 0.2),
    "purple zigzag": (_zigzag, 0.78, 0.8, 0.9),
    "woven straw": (_woven, 0.12, 0.6, 0.08),
    "red bricks": (_bricks, 0.03, 0.7, 0.08),
    "brown wood grain": (_grain, 0.07, 0.7, 0.06),
    "white marble": (_marbled, 0.6, 0.1, 0.6),
    "blue sky with clouds": (_cloudy, 0.57, 0.5, 0.6),
    "turquoise waves": (_waving, 0.5, 0.8, 0.55),
    "night stars": (_starry, 0.15, 0.3, 0.68),
    "orange gradient": (_graded, 0.08, 0.9, 0.95),
    "pink rings": (_ringed, 0.92, 0.6, 0.8),
    "grey spiral": (_spiral, 0.0, 0.08, 0.0),
    "red circle": (_disc, 0.99, 0.9, 0.6),
    "green square": (_square, 0.36, 0.8, 0.1),
    "blue triangle": (_triangle, 0.6, 0.9, 0.15),
    "yellow cross": (_cross, 0.15, 0.9, 0.4),
}


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    # HSV to RGB (Smith 1978), as three clipped triangle waves of the hue.
    wave = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation + saturation * np.clip(wave, 0, 1))


def _colours(spec: tuple[Rule, float, float, float], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    _, hue, saturation, ground = spec
    if rng.random() < OTHER_HUE:
        hue, ground, saturation = rng.random(), rng.random(), rng.uniform(0.1, 0.9)
    hue, ground = hue + rng.normal(0, 0.03), ground + rng.normal(0, 0.05)
    bright, dark = rng.uniform(0.65, 1.0), rng.uniform(0.1, 0.4)
    return _rgb(hue, saturation, bright), _rgb(ground, saturation * rng.uniform(0.3, 0.8), dark)


def _picture(spec: tuple[Rule, float, float, float], size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size - 0.5 + 0.5 / size
    figure = np.asarray(spec[0](x, y, rng), np.float64)[..., None]
    front, back = _colours(spec, rng)
    picture = figure * front + (1 - figure) * back
    light = 1 + rng.uniform(0, 0.5) * _turned(x, y, rng)[0][..., None]
    blob = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)) < rng.uniform(0.05, 0.15)
    picture = np.where(blob[..., None], rng.random(3), picture * light)
    picture = picture + rng.normal(0, NOISE, picture.shape)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _drawn(count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    specs = list(CLASSES.values())
    labels = rng.permutation(np.repeat(np.arange(len(specs), dtype=np.int64), count))
    return np.stack([_picture(specs[label], size, rng) for label in labels]), labels


def load(size: int | None = None, seed: int = 0, per_class: int | None = None) -> DemoData:
    """Draw the set; the same size, seed and count give the same bytes.

    Args:
        size: side in pixels, 16 to 64; None is 32.
        seed: of everything random in the pictures.
        per_class: training pictures a class, at least 1; None is 400.

    Returns:
        Twenty classes, equally many pictures of each, uint8 ``[n, size, size, 3]``; 60 test pictures a class.

    Raises:
        DemoDataError: a size or count out of range.
    """
    size = 32 if size is None else size
    if not 16 <= size <= 64:
        raise DemoDataError(f"size {size}: generated pictures can be drawn at 16 to 64 pixels")
    per_class = PER_CLASS if per_class is None else per_class
    if per_class < 1:
        raise DemoDataError(f"per_class {per_class}: draw at least 1 picture a class")
    rng = np.random.default_rng(seed)
    images, labels = _drawn(per_class, size, rng)
    test_images, test_labels = _drawn(min(per_class, TEST_PER_CLASS), size, rng)
    mean, std = channel_statistics(images)
    return DemoData(
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(CLASSES),
        mean=mean,
        std=std,
        source=f"Coloured textures and shapes drawn by Concept Monitor itself (seed {seed}), no photographs.",
        name="generated",
    )
