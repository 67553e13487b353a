"""How fast a noisy series falls over its last values, robust against outliers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SAMPLES = 20
"""A drop is expressed per this many values."""
WINDOWS = (20, 40, 80)
SPANS = (20, 22, 24, 26, 28, 30, 33, 36, 40, 45, 50, 57, 66, 80, 112, 160)
"""Since when a series may have changed its pace."""
_EVERY_VALUE = 80
"""Longer windows are read in means of two: their noise is the same, and they cost a quarter."""


@dataclass(frozen=True)
class Slope:
    """Where a series is heading.

    Attributes:
        drop: how far it falls per `SAMPLES` values (negative: it rises).
        error: standard error of the drop.
        window: values the slope was fitted to.
    """

    drop: float
    error: float
    window: int


def slope_of(values: np.ndarray, long_run: float, precise: float) -> Slope:
    """The slope over the shortest of `WINDOWS` that is precise enough.

    Args:
        values: ``[S]``, S >= 2, finite, oldest first.
        long_run: standard deviation times the square root of m, of a mean over m values.
        precise: a standard error of the drop that is small enough; while it is larger, a longer window is tried.
    """
    counts = [min(window, len(values)) for window in WINDOWS]
    chosen = next((count for count in counts if _error(count, long_run) <= precise), counts[-1])
    return _over(values[-chosen:], long_run)


def slopes_of(values: np.ndarray, long_run: float) -> list[Slope]:
    """The slopes over each of `SPANS` that is filled, and over all values.

    Args:
        values: ``[S]``, S >= 2, finite, oldest first.
        long_run: as in `slope_of`.
    """
    filled = [span for span in SPANS if span < len(values)]
    return [_over(values[-span:], long_run) for span in (*filled, len(values))]


def _over(values: np.ndarray, long_run: float) -> Slope:
    count = len(values)
    if count <= _EVERY_VALUE:
        drop = -theil_sen(values) * SAMPLES
    else:
        drop = -theil_sen(values[count % 2 :].reshape(-1, 2).mean(axis=1)) * SAMPLES / 2
    return Slope(drop, _error(count, long_run), count)


def _error(count: int, long_run: float) -> float:
    # 12 / n^3: variance of a least-squares slope; Theil–Sen's is 1.05 times that for normal noise.
    return SAMPLES * long_run * math.sqrt(1.05 * 12 / count**3)


def theil_sen(values: np.ndarray) -> float:
    """Median of the slopes between all pairs, per value.

    Args:
        values: ``[W]``, W >= 2, finite.

    Example:
        >>> theil_sen(np.array([3.0, 2.0, 100.0, 0.0, -1.0]))
        -1.0
    """
    first, second, apart = _pairs(len(values))
    slopes = (values[second] - values[first]) / apart
    half = len(slopes) // 2
    slopes.partition((half - 1, half) if len(slopes) % 2 == 0 else half)
    return float(slopes[half]) if len(slopes) % 2 else float(slopes[half - 1] + slopes[half]) / 2


@lru_cache(maxsize=128)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.triu_indices(count, k=1)
    return first, second, (second - first).astype(float)
