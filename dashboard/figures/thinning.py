"""Fewer points, the same picture: what a curve may leave out without hiding anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np

POINTS = 600
"""Points of one curve on screen; more than twice its width in pixels shows nothing new."""


def thin(values: np.ndarray, limit: int = POINTS) -> np.ndarray:
    """Indices to keep: first and last, and of every bucket its smallest, its largest and its first non-finite value.

    Args:
        values: ``[S]`` in the order of the steps.
        limit: about how many indices to keep; never fewer than 6.

    Returns:
        Sorted unique indices, at most ``max(limit, 6) + 2``.
    """
    count = len(values)
    if count <= max(limit, 6):
        return np.arange(count)
    edges = np.linspace(0, count, max(limit, 6) // 3 + 1).astype(int)
    kept = {0, count - 1}
    for start, stop in itertools.pairwise(edges):
        kept |= _extremes(values[start:stop], int(start))
    return np.array(sorted(kept), dtype=np.int64)


def numbers(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Plain numbers for JSON, rounded to significant digits; None for NaN and infinity (a gap in the curve).

    >>> numbers([0.123456789, float('nan')])
    [0.123457, None]
    """
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]


def _extremes(bucket: np.ndarray, start: int) -> set[int]:
    finite = np.flatnonzero(np.isfinite(bucket))
    broken = np.flatnonzero(~np.isfinite(bucket))
    kept = {start + int(broken[0])} if len(broken) else set()
    if len(finite):
        kept |= {start + int(finite[np.argmin(bucket[finite])]), start + int(finite[np.argmax(bucket[finite])])}
    return kept
