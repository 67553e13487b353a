"""Which neurons a crowded map shows: always the chosen ones and the outliers, and a steady sample of the crowd."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

SHOWN = 4000
"""Most neurons drawn; more than this, and points lie on points while every frame costs more."""
CELLS = 48
"""The map is cut into this many cells a side to find who stands alone."""
ALONE = 2
"""A neuron with no more neurons than this in its cell and the eight around it, itself included, is an outlier."""


def keep(positions: np.ndarray, chosen: Collection[int] = (), limit: int = SHOWN) -> np.ndarray:
    """Indices of the points to draw.

    Outliers (points with hardly any other around them) and chosen points come first. The rest is sampled by the index's
    own hash, so the same neurons stay on the map from snapshot to snapshot: a point that vanishes would look like
    news.

    Args:
        positions: ``[M, 2]``, finite.
        chosen: indices that must be shown.
        limit: most points; the chosen ones are among them.

    Returns:
        Sorted indices, all of them if M is not above ``limit``.
    """
    count = len(positions)
    if count <= limit:
        return np.arange(count)
    rank = _steady(count)
    around = _around(positions)
    rank -= np.where(around <= ALONE, 1 + 1 / around, 0.0)  # the loneliest before all others
    rank[[index for index in chosen if 0 <= index < count]] = -np.inf
    return np.sort(np.argsort(rank, kind="stable")[:limit])


def _steady(count: int) -> np.ndarray:
    """A number in [0, 1) per index, scattered, the same for ever (Knuth's multiplicative hash)."""
    return (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)).astype(np.float64) / 2**32


def _around(positions: np.ndarray) -> np.ndarray:
    """How many points, itself included, lie in a point's cell and the eight around it, ``[M]``."""
    positions = np.nan_to_num(positions.astype(np.float64))
    low = positions.min(axis=0)
    width = max(float((positions.max(axis=0) - low).max()), 1e-12)
    cells = np.minimum((positions - low) / width * CELLS, CELLS - 1).astype(np.int64) + 1
    grid = np.zeros((CELLS + 2, CELLS + 2), dtype=np.int64)
    np.add.at(grid, (cells[:, 0], cells[:, 1]), 1)
    shifts = [(across, up) for across in (-1, 0, 1) for up in (-1, 0, 1)]
    return np.sum([np.roll(grid, shift, (0, 1)) for shift in shifts], axis=0)[cells[:, 0], cells[:, 1]]
