"""Drawn things with their parts: simple shapes, so that every part's pixels are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from cm_server.probes import fields

Points = Sequence[tuple[float, float]]
Colour = tuple[int, int, int]


class Sketch:
    """A picture being drawn, with the label of each pixel's object and part.

    Coordinates are shares of the picture, moved and scaled at random once, so that a thing stands anywhere.

    Args:
        ground: uint8 ``[S, S, 3]``.
        rng: all chance there is.
    """

    def __init__(self, ground: np.ndarray, rng: np.random.Generator) -> None:
        self.image = Image.fromarray(ground)
        self.rng = rng
        self.objects: dict[str, Image.Image] = {}
        self.parts: dict[str, Image.Image] = {}
        self._size = len(ground)
        self._scale = rng.uniform(0.7, 1.0)
        self._shift = rng.uniform(0, 1 - self._scale, 2)
        self._flip = rng.random() < 0.5

    def polygon(self, points: Points, colour: Colour, thing: str = "", part: str = "") -> None:
        """A filled polygon that belongs to an object and, where named, is one of its parts."""
        placed = [self._place(x, y) for x, y in points]
        self._draw(lambda pen, fill: pen.polygon(placed, fill=fill), colour, thing, part)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, thing: str = "", part: str = ""
    ) -> None:
        """A filled ellipse around (x, y)."""
        (x0, y0), (x1, y1) = self._place(x - rx, y - ry), self._place(x + rx, y + ry)
        box = (min(x0, x1), y0, max(x0, x1), y1)
        self._draw(lambda pen, fill: pen.ellipse(box, fill=fill), colour, thing, part)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, thing: str = "", part: str = "") -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, thing, part)

    def colour(self, low: int = 40, high: int = 230) -> Colour:
        """Any colour."""
        red, green, blue = (int(v) for v in self.rng.integers(low, high, 3))
        return red, green, blue

    def near(self, colour: Colour, by: int = 25) -> Colour:
        """A colour like the given one."""
        red, green, blue = (int(v) for v in np.clip(np.array(colour) + self.rng.integers(-by, by + 1, 3), 0, 255))
        return red, green, blue

    def _place(self, x: float, y: float) -> tuple[float, float]:
        x = 1 - x if self._flip else x
        return (
            float((self._shift[0] + self._scale * x) * self._size),
            float((self._shift[1] + self._scale * y) * self._size),
        )

    def _draw(self, draw: Callable[..., None], colour: Colour, thing: str, part: str) -> None:
        draw(ImageDraw.Draw(self.image), colour)
        for masks, name in ((self.objects, thing), (self.parts, part)):
            if name and name not in masks:
                masks[name] = Image.new("1", self.image.size)
        for known, mask in (*self.objects.items(), *self.parts.items()):
            draw(ImageDraw.Draw(mask), 1 if known in (thing, part) else 0)


def _house(s: Sketch) -> None:
    wall, roof, glass = s.colour(120, 240), s.colour(60, 180), (170, 210, 240)
    s.box(0.68, 0.1, 0.77, 0.4, s.near(roof), "house", "chimney")
    s.box(0.15, 0.42, 0.85, 0.95, wall, "house", "wall")
    s.polygon([(0.08, 0.44), (0.5, 0.08), (0.92, 0.44)], roof, "house", "roof")
    s.box(0.44, 0.62, 0.58, 0.95, s.colour(40, 140), "house", "door")
    for x in (0.2, 0.66):
        s.box(x, 0.52, x + 0.14, 0.66, glass, "house", "window")


def _car(s: Sketch) -> None:
    paint = s.colour()
    s.polygon([(0.25, 0.5), (0.36, 0.3), (0.68, 0.3), (0.8, 0.5)], s.near(paint), "car")
    s.polygon([(0.3, 0.5), (0.38, 0.34), (0.5, 0.34), (0.5, 0.5)], (190, 215, 235), "car", "window")
    s.polygon([(0.53, 0.5), (0.53, 0.34), (0.66, 0.34), (0.75, 0.5)], (190, 215, 235), "car", "windshield")
    s.box(0.05, 0.5, 0.95, 0.72, paint, "car", "car body")
    s.ellipse(0.92, 0.58, 0.03, 0.04, (250, 245, 180), "car", "headlight")
    s.box(0.03, 0.66, 0.97, 0.72, (90, 90, 95), "car", "bumper")
    for x in (0.25, 0.75):
        s.ellipse(x, 0.74, 0.11, 0.11, (25, 25, 28), "car", "wheel")
        s.ellipse(x, 0.74, 0.05, 0.05, (170, 170, 175), "car", "wheel")


def _face(s: Sketch) -> None:
    skin, hair = s.near((224, 180, 150), 30), s.near((90, 60, 40), 50)
    s.ellipse(0.5, 0.42, 0.36, 0.4, hair, "face", "hair")
    for x in (0.19, 0.81):
        s.ellipse(x, 0.54, 0.06, 0.1, s.near(skin, 10), "face", "ear")
    s.ellipse(0.5, 0.55, 0.31, 0.38, skin, "face")
    for x in (0.38, 0.62):
        s.ellipse(x, 0.46, 0.07, 0.04, (245, 245, 245), "face", "eye")
        s.ellipse(x, 0.46, 0.03, 0.03, s.colour(20, 120), "face", "eye")
        s.box(x - 0.08, 0.37, x + 0.08, 0.395, hair, "face", "eyebrow")
    s.polygon([(0.5, 0.48), (0.44, 0.66), (0.56, 0.66)], s.near(skin, 20), "face", "nose")
    s.ellipse(0.5, 0.76, 0.12, 0.04, (190, 60, 70), "face", "mouth")


def _bird(s: Sketch) -> None:
    body = s.colour()
    s.polygon([(0.2, 0.55), (0.02, 0.45), (0.04, 0.68)], s.near(body), "bird", "tail")
    for x in (0.42, 0.52):
        s.box(x, 0.7, x + 0.025, 0.95, (200, 130, 50), "bird", "leg")
    s.ellipse(0.45, 0.56, 0.28, 0.2, body, "bird")
    s.ellipse(0.74, 0.36, 0.14, 0.13, s.near(body), "bird", "head")
    s.polygon([(0.86, 0.32), (0.99, 0.38), (0.86, 0.42)], (240, 170, 40), "bird", "beak")
    s.ellipse(0.77, 0.33, 0.025, 0.025, (10, 10, 10), "bird", "eye")
    s.polygon([(0.55, 0.48), (0.2, 0.5), (0.34, 0.7)], s.near(body, 60), "bird", "wing")


def _flower(s: Sketch) -> None:
    petal = s.colour(120, 255)
    s.box(0.485, 0.45, 0.52, 0.98, (50, 130, 50), "flower", "stem")
    for side in (-1, 1):
        s.polygon([(0.5, 0.85), (0.5 + side * 0.3, 0.68), (0.5 + side * 0.1, 0.9)], (60, 150, 60), "flower", "leaf")
    for turn in np.linspace(0, 2 * np.pi, int(s.rng.integers(5, 9)), endpoint=False):
        s.ellipse(0.5 + 0.2 * np.cos(turn), 0.32 + 0.2 * np.sin(turn), 0.12, 0.12, s.near(petal), "flower", "petal")
    s.ellipse(0.5, 0.32, 0.1, 0.1, (240, 200, 60), "flower")


def _tree(s: Sketch) -> None:
    bark = s.near((100, 70, 45))
    s.box(0.44, 0.5, 0.56, 0.98, bark, "tree", "trunk")
    for x, y in ((0.2, 0.42), (0.8, 0.4)):
        s.polygon([(0.47, 0.66), (0.53, 0.62), (x, y)], bark, "tree", "branch")
    for _ in range(9):
        x, y = s.rng.uniform(0.28, 0.72), s.rng.uniform(0.14, 0.38)
        s.ellipse(x, y, 0.15, 0.12, s.near((60, 130, 50), 35), "tree", "foliage crown")


def _table(s: Sketch) -> None:
    wood = s.near((150, 100, 60), 40)
    for x in (0.1, 0.84):
        s.box(x, 0.5, x + 0.06, 0.95, s.near(wood), "table", "leg")
    s.polygon([(0.2, 0.35), (0.8, 0.35), (0.97, 0.5), (0.03, 0.5)], wood, "table", "tabletop")


def _chair(s: Sketch) -> None:
    wood = s.colour(60, 200)
    for x in (0.25, 0.7):
        s.box(x, 0.6, x + 0.05, 0.97, s.near(wood), "chair", "leg")
    s.box(0.25, 0.08, 0.75, 0.5, s.near(wood), "chair", "backrest")
    s.polygon([(0.25, 0.5), (0.75, 0.5), (0.85, 0.63), (0.15, 0.63)], wood, "chair", "seat")


def _boat(s: Sketch) -> None:
    s.box(0.485, 0.06, 0.515, 0.7, (110, 80, 50), "sailboat", "mast")
    s.polygon([(0.53, 0.1), (0.53, 0.62), (0.88, 0.62)], s.near((235, 235, 230), 20), "sailboat", "sail")
    s.polygon([(0.47, 0.2), (0.47, 0.62), (0.2, 0.62)], s.near((235, 235, 230), 20), "sailboat", "sail")
    s.polygon([(0.08, 0.68), (0.92, 0.68), (0.78, 0.88), (0.22, 0.88)], s.colour(), "sailboat", "hull")


def _plane(s: Sketch) -> None:
    metal = s.near((215, 220, 225), 20)
    s.polygon([(0.06, 0.25), (0.16, 0.22), (0.26, 0.48), (0.12, 0.48)], s.colour(), "airplane", "tail")
    s.ellipse(0.5, 0.52, 0.45, 0.1, metal, "airplane", "fuselage")
    for x in np.linspace(0.28, 0.76, 8):
        s.ellipse(float(x), 0.49, 0.015, 0.02, (60, 80, 110), "airplane", "window")
    s.polygon([(0.42, 0.53), (0.6, 0.53), (0.4, 0.86), (0.3, 0.86)], s.near(metal, 30), "airplane", "wing")
    s.ellipse(0.46, 0.68, 0.06, 0.035, (90, 90, 100), "airplane", "engine")


def _fish(s: Sketch) -> None:
    scales = s.colour(80, 250)
    s.polygon([(0.24, 0.5), (0.04, 0.3), (0.04, 0.7)], s.near(scales, 50), "fish", "tail")
    s.polygon([(0.4, 0.34), (0.62, 0.14), (0.68, 0.34)], s.near(scales, 50), "fish", "fin")
    s.ellipse(0.54, 0.5, 0.36, 0.2, scales, "fish")
    s.polygon([(0.5, 0.55), (0.36, 0.74), (0.58, 0.66)], s.near(scales, 50), "fish", "fin")
    s.ellipse(0.78, 0.44, 0.035, 0.035, (245, 245, 245), "fish", "eye")
    s.ellipse(0.78, 0.44, 0.018, 0.018, (10, 10, 10), "fish", "eye")


def _bottle(s: Sketch) -> None:
    glass = s.colour(30, 190)
    s.box(0.43, 0.16, 0.57, 0.42, glass, "bottle", "bottleneck")
    s.box(0.42, 0.06, 0.58, 0.16, s.colour(), "bottle", "cap")
    s.polygon([(0.43, 0.36), (0.57, 0.36), (0.7, 0.5), (0.7, 0.96), (0.3, 0.96), (0.3, 0.5)], glass, "bottle")
    s.box(0.3, 0.6, 0.7, 0.82, s.near((235, 225, 200)), "bottle", "label")


def _bicycle(s: Sketch) -> None:
    paint = s.colour()
    for x in (0.23, 0.77):
        s.ellipse(x, 0.68, 0.2, 0.2, (30, 30, 32), "bicycle", "wheel")
        s.ellipse(x, 0.68, 0.16, 0.16, (205, 208, 212), "bicycle", "wheel")
    for a, b in (((0.23, 0.68), (0.4, 0.38)), ((0.4, 0.38), (0.7, 0.36)), ((0.5, 0.68), (0.7, 0.36)),
                 ((0.23, 0.68), (0.5, 0.68)), ((0.4, 0.38), (0.5, 0.68)), ((0.77, 0.68), (0.69, 0.3))):  # fmt: skip
        s.polygon([a, (a[0] + 0.03, a[1]), (b[0] + 0.03, b[1]), b], paint, "bicycle", "frame")
    s.box(0.32, 0.33, 0.48, 0.38, (60, 40, 30), "bicycle", "saddle")
    s.box(0.6, 0.26, 0.8, 0.3, (50, 50, 55), "bicycle", "handlebar")


def _lamp(s: Sketch) -> None:
    s.box(0.48, 0.4, 0.52, 0.9, (120, 110, 90), "lamp", "pole")
    s.ellipse(0.5, 0.9, 0.2, 0.05, (100, 90, 75), "lamp", "base")
    s.polygon([(0.36, 0.1), (0.64, 0.1), (0.82, 0.45), (0.18, 0.45)], s.colour(150, 255), "lamp", "lampshade")


DRAWINGS: dict[str, Callable[[Sketch], None]] = {
    "house": _house, "car": _car, "face": _face, "bird": _bird, "flower": _flower, "tree": _tree, "table": _table,
    "chair": _chair, "sailboat": _boat, "airplane": _plane, "fish": _fish, "bottle": _bottle, "bicycle": _bicycle,
    "lamp": _lamp,
}  # fmt: skip
"""Every thing that can be drawn."""


def draw_thing(name: str, size: int, rng: np.random.Generator) -> Sketch:
    """One drawing on a soft ground of two colours, its objects and parts with it.

    Args:
        name: one of `DRAWINGS`.
        size: height and width.
        rng: all chance there is.
    """
    first, second = rng.uniform(90, 255, 3), rng.uniform(90, 255, 3)
    field = fields.noise(rng, size, int(rng.integers(1, 4)))[..., None]
    sketch = Sketch((first + (second - first) * field).astype(np.uint8), rng)
    DRAWINGS[name](sketch)
    return sketch
