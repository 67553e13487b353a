"""Colours by pixel: the eleven basic colour terms, by the nearest of some typical colours in CIELAB."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COLOURS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
"""Berlin and Kay's basic colour terms, as in Broden."""
_TYPICAL = {
    "black": ("000000", "1c1a1a", "101828"),
    "blue": ("0000ff", "1e66c8", "5a9fe0", "14287a", "8ec0f0", "2040d8", "3c50c0"),
    "brown": ("7a4a21", "5a3214", "9a6a3c", "3c2412"),
    "gray": ("808080", "a8a8a8", "5a5a5a", "c4c4c4"),
    "green": ("00a000", "2f6b2a", "6fbf4b", "124612", "9bd08a", "7a8a2a"),
    "orange": ("ff8000", "e8752a", "ffa850"),
    "pink": ("ff9ec0", "f07ab0", "ffc8d8"),
    "purple": ("800080", "6a3fa0", "b080d0", "40205a"),
    "red": ("ff0000", "c01818", "901010", "e04848"),
    "white": ("ffffff", "f0f0ea"),
    "yellow": ("ffff00", "e8d020", "fff090", "c8b020"),
}
_BITS = 5


def colour_names(image: np.ndarray) -> np.ndarray:
    """Each pixel's colour term.

    Args:
        image: uint8 ``[H, W, 3]``.

    Returns:
        uint8 ``[H, W]``, indices into `COLOURS`.

    Example:
        >>> COLOURS[int(colour_names(np.array([[[250, 10, 5]]], dtype=np.uint8))[0, 0])]
        'red'
    """
    red, green, blue = (image[..., channel] >> (8 - _BITS) for channel in range(3))
    return _table()[red, green, blue]


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """The nearest term of every colour, five bits a channel."""
    levels = (np.arange(2**_BITS) + 0.5) * 2 ** (8 - _BITS)
    colours = _lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1))
    best = np.full(colours.shape[:3], np.inf)
    names = np.zeros(colours.shape[:3], dtype=np.uint8)
    for index, name in enumerate(COLOURS):
        for typical in _TYPICAL[name]:
            rgb = np.array([int(typical[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float64)
            distance = ((colours - _lab(rgb)) ** 2).sum(axis=-1)
            nearer = distance < best
            best[nearer], names[nearer] = distance[nearer], index
    return names


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0 to 255 to CIELAB (D65)."""
    linear = rgb / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
