"""Which words of the map get a label: as many as can stand without touching, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SCREEN = (820, 560)
"""Pixels that labels are laid out for: less than the map at 1280 x 800, so it holds on larger screens, too."""
CHARACTER, LINE = 6.2, 15.0
"""Width of a character and height of a line in pixels, at the labels' font size."""


def spread_order(positions: np.ndarray, first: int = 0) -> np.ndarray:
    """Indices so that each next point is as far as can be from those before it (Gonzalez 1985).

    Args:
        positions: ``[K, 2]``, finite.
        first: index to begin with.
    """
    count = len(positions)
    order = np.empty(count, dtype=np.int64)
    nearest = np.full(count, np.inf)
    current = first
    for place in range(count):
        order[place] = current
        nearest = np.minimum(nearest, np.square(positions - positions[current]).sum(axis=1))
        nearest[current] = -1
        current = int(nearest.argmax())
    return order


def place(
    words: Sequence[str],
    positions: np.ndarray,
    order: Sequence[int] | np.ndarray,
    extent: tuple[float, float, float, float],
    limit: int,
    screen: tuple[float, float] = SCREEN,
) -> list[int]:
    """Chooses words whose labels do not touch each other and lie inside the map.

    Args:
        words: K words.
        positions: ``[K, 2]`` in the map's units; a label is centred just above its point.
        order: indices, most wanted first.
        extent: ``(x0, x1, y0, y1)`` shown.
        limit: most labels to choose.
        screen: size of the map in pixels.

    Returns:
        Chosen indices, in the given order.
    """
    x0, x1, y0, y1 = extent
    across, up = screen[0] / max(x1 - x0, 1e-9), screen[1] / max(y1 - y0, 1e-9)
    chosen: list[int] = []
    boxes = np.empty((0, 4))
    for index in order:
        half = len(words[index]) * CHARACTER / 2 + 4
        x, y = (positions[index, 0] - x0) * across, (positions[index, 1] - y0) * up + LINE * 0.8
        box = np.array([x - half, x + half, y - LINE / 2, y + LINE / 2])
        if not (0 <= box[0] and box[1] <= screen[0] and 0 <= box[2] and box[3] <= screen[1]) or _touches(box, boxes):
            continue
        chosen.append(int(index))
        boxes = np.vstack([boxes, box])
        if len(chosen) == limit:
            break
    return chosen


def _touches(box: np.ndarray, boxes: np.ndarray) -> bool:
    return bool(
        ((box[0] < boxes[:, 1]) & (box[1] > boxes[:, 0]) & (box[2] < boxes[:, 3]) & (box[3] > boxes[:, 2])).any()
    )
