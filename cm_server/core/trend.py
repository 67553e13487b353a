"""Whether a noisy series falls, rests or rises, told one value at a time: constant memory, constant work per value.

Three questions, each answered against the series' own noise:

- *Does it fall?* Theil–Sen slope over the last 20 values (40, then 80, while that is too uncertain), with an interval
  that knows of autocorrelation. Robust against outliers, slow to see a turn.
- *How far has it come?* From its start to its best level, the smallest running median.
- *Does it stand above its best?* Levels over the last 5, 10, 20 and 40 values against the best such level so far, both
  with their uncertainty: a jump shows in the short ones within a few snapshots, a slow rise in the long ones.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

import numpy as np

from cm_server.core.slope import SAMPLES, SPANS, Slope, slope_of, slopes_of

SCALES = (5, 10, 20, 40)
"""Windows of the levels that a rise is looked for in."""
_BEST_SCALES = (9, 20, 40)
_BEST_ROOTS = tuple(map(math.sqrt, _BEST_SCALES))
_LEVEL = 5
_START = 3
_PACE = 3
_KEPT = SPANS[-1]
_CLIP = 3.0
_PRIOR_RHO, _PRIOR_WEIGHT = 0.4, 80
"""A hundred values say little about autocorrelation: what is usual counts as eighty more."""
_BEST_SIGMAS = 2.0
"""The smallest of many levels is too small by about this many of its standard errors."""


@dataclass(frozen=True)
class Noise:
    """Scatter of single values.

    Attributes:
        sigma: standard deviation.
        rho: correlation of neighbours, [0, 0.8].
    """

    sigma: float
    rho: float

    @property
    def long_run(self) -> float:
        """Standard deviation times the square root of m, of a mean over m values (m large)."""
        return self.sigma * math.sqrt((1 + self.rho) / (1 - self.rho))


@dataclass(frozen=True)
class Trend:
    """Where a series stands, and against which noise.

    Attributes:
        start: median of the first 3 values.
        level: median of the last 5.
        before: median of the up to 15 values before those.
        best: smallest 9-value running level so far.
        best_step: step at which that was.
        reference: the best level with its uncertainty against us: above the true best level almost surely.
        noise: scatter of single values.
        rises: for each window of `SCALES` that is filled: by how much its level stands above the best level before it,
            the best's uncertainty taken off, and the standard error of the window's level.
        pace: by how much it rose per value lately: the last 3 values against the 3 before them.
    """

    start: float
    level: float
    before: float
    best: float
    best_step: int
    reference: float
    noise: Noise
    rises: tuple[tuple[float, float], ...]
    pace: float

    def above(self, sigmas: float) -> float:
        """By how much the series stands above its best level for certain: ``sigmas`` standard errors taken off."""
        return max((above - sigmas * error for above, error in self.rises), default=-math.inf)


class Track:
    """Takes a series' values one by one and measures its end.

    Attributes:
        count: values taken.
        first_step: the step of the first one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first_step = 0
        self._best_step = 0
        self._steps: deque[int] = deque(maxlen=_LEVEL)
        self._trend: tuple[int, Trend] | None = None
        self._slope: tuple[int, float, Slope] | None = None
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._bests: deque[tuple[float, ...]] = deque([(math.inf,) * len(_BEST_SCALES)], maxlen=SCALES[-1] + 1)

    def add(self, value: float, step: int = 0) -> None:
        """Takes the next value, which must be finite, and the step it belongs to."""
        self.count += 1
        self.first_step = step if self.count == 1 else self.first_step
        if len(self._first) < _START:
            self._first.append(value)
        self._recent.append(value)
        self._steps.append(step)
        recent = list(self._recent)
        levels = [middle(recent[-m:]) if self.count >= m else math.inf for m in _BEST_SCALES]
        if levels[0] < self._bests[-1][0]:
            self._best_step = self._steps[0]  # the middle of the 9 values
        self._bests.append(tuple(map(min, self._bests[-1], levels)))

    @property
    def start(self) -> float:
        """Median of the first 3 values; a single odd one is no start."""
        return median(self._first)

    @property
    def best(self) -> float:
        """Smallest 9-value running level so far; infinite while there is none."""
        return self._bests[-1][0]

    def trend(self) -> Trend:
        """Where the series stands now; asked again, it answers at once.

        Raises:
            ValueError: fewer than 5 values.
        """
        if self.count < _LEVEL:
            raise ValueError(f"a trend needs {_LEVEL} values, there are {self.count}")
        if self._trend is None or self._trend[0] != self.count:
            self._trend = (self.count, self._measure())
        return self._trend[1]

    def slope(self, precise: float = 0.0) -> Slope:
        """Where the series is heading; asked again for the same, it answers at once.

        Args:
            precise: a standard error of the drop that is small enough; while it is larger, a longer window is tried.

        Raises:
            ValueError: fewer than 5 values.
        """
        noise = self.trend().noise
        if self._slope is None or self._slope[:2] != (self.count, precise):
            self._slope = (self.count, precise, slope_of(np.array(self._recent), noise.long_run, precise))
        return self._slope[2]

    def slopes(self) -> list[Slope]:
        """Where the series is heading over the last 20 values, 22, 24 … and as far back as 160.

        Raises:
            ValueError: fewer than 5 values.
        """
        return slopes_of(np.array(self._recent), self.trend().noise.long_run)

    def _measure(self) -> Trend:
        values = list(self._recent)
        noise = noise_of(np.array(values))
        level, before = median(values[-_LEVEL:]), values[-SAMPLES:-_LEVEL]
        lately = median(values[-_PACE:]) - median(values[-2 * _PACE : -_PACE])
        return Trend(
            start=self.start,
            level=level,
            before=median(before) if before else level,
            best=self.best if self.count >= _BEST_SCALES[0] else middle(values),
            best_step=self._best_step,
            reference=self._reference(1, noise),
            noise=noise,
            rises=tuple(
                (middle(values[-m:]) - self._reference(m + 1, noise), noise.long_run / math.sqrt(m))
                for m in SCALES
                if m < len(self._bests)
            ),
            pace=lately / _PACE,
        )

    def _reference(self, back: int, noise: Noise) -> float:
        """The best level as it was known ``back - 1`` values ago, and surely not below the true one."""
        margin = _BEST_SIGMAS * noise.long_run
        return min(best + margin / root for best, root in zip(self._bests[-back], _BEST_ROOTS, strict=True))


def middle(values: Sequence[float]) -> float:
    """Mean of the middle half (of 5: the median): deaf to outliers, and less noisy than a median.

    Args:
        values: at least one.

    Example:
        >>> middle([1.0, 900.0, 3.0, 2.0, -70.0])
        2.0
    """
    # Plain Python: of so few values numpy would spend its time on preparations.
    ordered = sorted(values)
    cut = min((len(ordered) - 1) // 2, max(2, len(ordered) // 4))
    return math.fsum(ordered[cut : len(ordered) - cut]) / (len(ordered) - 2 * cut)


def noise_of(values: np.ndarray) -> Noise:
    """Scatter and autocorrelation from bends, ``y[t] - (y[t-k] + y[t+k]) / 2``, which no slope touches.

    For AR(1) noise the bend's variance is ``s^2 (1 - r) (3 - r) / 2`` with ``r = rho^k``, so the ratio of the variances
    for k = 4 and k = 1 tells rho: it is 1 for white noise and 3.5 for rho = 0.8. (Plain differences would take a fall
    that slows down, or turns, for autocorrelation.)

    Args:
        values: ``[S]``, S >= 5, finite.
    """
    count = len(values)
    apart = min(_FAR, (count - 1) // 2)
    near, far = _scatter(_bends(values, 1)), _scatter(_bends(values, apart))
    if near == 0:
        return Noise(far / math.sqrt(1.5), 0.0)
    seen = float(np.interp((far / near) ** 2, _ratios(apart), _RHOS))
    rho = (count * seen + _PRIOR_WEIGHT * _PRIOR_RHO) / (count + _PRIOR_WEIGHT)
    return Noise(near / math.sqrt((1 - rho) * (3 - rho) / 2), rho)


_FAR = 4
_RHOS = np.linspace(0, 0.8, 81)


@lru_cache(maxsize=_FAR)
def _ratios(apart: int) -> np.ndarray:
    far = _RHOS**apart
    return (1 - far) * (3 - far) / ((1 - _RHOS) * (3 - _RHOS))


def _bends(values: np.ndarray, apart: int) -> np.ndarray:
    return values[apart:-apart] - (values[: -2 * apart] + values[2 * apart :]) / 2


def _scatter(bends: np.ndarray) -> float:
    """Standard deviation about 0, with what lies beyond 3 robust ones pulled in to there."""
    sizes = np.sort(np.abs(bends))
    robust = 1.4826 * float(sizes[len(sizes) // 2])
    kept = np.minimum(sizes, _CLIP * robust) if robust else sizes
    return math.sqrt(float(kept @ kept) / len(kept))
