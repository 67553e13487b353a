"""Whether a noisy series falls, rests or rises: Theil–Sen slope with an interval that knows of autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES = 20
"""A drop is expressed per this many values."""
WINDOWS = (20, 40, 80)
_WIDE = 0.05
"""While the interval is wider than this share of the scale, a longer window is tried."""
_STEPS_BACK = 9
_LEVEL = 5


@dataclass(frozen=True)
class Trend:
    """Where a series stands.

    Attributes:
        drop: how far it falls per `SAMPLES` values (negative: it rises).
        low, high: interval of the drop, 2 standard errors either side.
        window: values the slope was fitted to.
        sigma: scatter of single values about the line.
        level: median of the last 5 values.
        best: smallest 9-value running median so far.
    """

    drop: float
    low: float
    high: float
    window: int
    sigma: float
    level: float
    best: float


def theil_sen(values: np.ndarray) -> float:
    """Median of the slopes between all pairs, per value.

    Args:
        values: ``[W]``, W >= 2, finite.

    Example:
        >>> theil_sen(np.array([3.0, 2.0, 100.0, 0.0, -1.0]))
        -1.0
    """
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def measure(values: np.ndarray, scale: float) -> Trend:
    """Measures the end of a series.

    Args:
        values: ``[S]``, finite, S >= 3, one per snapshot.
        scale: what counts as much, in the units of the values; widens the window while the drop is uncertain.
    """
    trend = _fit(values, WINDOWS[0])
    for window in WINDOWS[1:]:
        if len(values) < window or trend.high - trend.low <= _WIDE * scale:
            break
        trend = _fit(values, window)
    return trend


def _fit(values: np.ndarray, window: int) -> Trend:
    recent = values[-window:]
    count = len(recent)
    slope = theil_sen(recent)
    residual = recent - slope * np.arange(count)
    residual = residual - np.median(residual)
    sigma = float(np.std(residual, ddof=1))
    error = sigma * np.sqrt(12.0 / count**3) * np.sqrt(_inflation(residual))
    drop, margin = -slope * SAMPLES, 2 * float(error) * SAMPLES
    return Trend(
        drop=drop,
        low=drop - margin,
        high=drop + margin,
        window=count,
        sigma=sigma,
        level=float(np.median(values[-_LEVEL:])),
        best=best_level(values),
    )


def best_level(values: np.ndarray) -> float:
    """Smallest running median of 9 values (of all, where there are fewer)."""
    if len(values) < _STEPS_BACK:
        return float(np.median(values))
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, _STEPS_BACK), axis=1).min())


def _inflation(residual: np.ndarray) -> float:
    """Factor of the slope's variance for residuals with lag-1 autocorrelation (AR(1))."""
    spread = float(np.dot(residual, residual))
    if spread == 0:
        return 1.0
    rho = float(np.clip(np.dot(residual[1:], residual[:-1]) / spread, 0.0, 0.9))
    return (1 + rho) / (1 - rho)
