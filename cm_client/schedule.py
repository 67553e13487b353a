"""When to capture. Pure: steps and seconds in, yes or no out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ADAPTIVE_SHARE = 0.01
ADAPTIVE_STEPS = 10


class Schedule(Protocol):
    """Decides at each step; is told of each capture."""

    def due(self, step: int, now: float) -> bool:
        """Whether to capture at ``step`` (steps done), ``now`` in seconds on any steady clock."""
        ...

    def captured(self, step: int, now: float, seconds: float) -> None:
        """A capture at ``step`` ended at ``now`` and took ``seconds``."""
        ...


class EverySteps:
    """Every n steps; where steps jump, at the first one past each multiple."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._last = -1

    def due(self, step: int, now: float) -> bool:
        """True once per multiple of n."""
        return self._last < 0 or step // self._every > self._last // self._every

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember the step."""
        self._last = max(self._last, step)


class Chosen:
    """Whenever the user's function says so, once a step."""

    def __init__(self, choose: Callable[[int], bool]) -> None:
        self._choose = choose
        self._last = -1

    def due(self, step: int, now: float) -> bool:
        """The function's answer; False at a step captured already."""
        return step != self._last and bool(self._choose(step))

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember the step."""
        self._last = step


class Adaptive:
    """As often as a share of the wall time allows: after a capture of s seconds the next waits s / share.

    Law: the captures but the last together take at most ``share`` of the time they span.
    """

    def __init__(self, share: float = ADAPTIVE_SHARE, steps: int = ADAPTIVE_STEPS) -> None:
        self._share, self._steps = share, steps
        self._last = -1
        self._not_before = float("-inf")

    def due(self, step: int, now: float) -> bool:
        """True where both the steps and the seconds since the last capture are enough."""
        return (self._last < 0 or step >= self._last + self._steps) and now >= self._not_before

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember step, end and cost."""
        self._last = step
        self._not_before = now + seconds / self._share


def make_schedule(every: int | Callable[[int], bool] | None) -> Schedule:
    """The schedule for `watch`'s ``every``: n steps, a function of the step, or None for the adaptive one."""
    if every is None:
        return Adaptive()
    return Chosen(every) if callable(every) else EverySteps(every)
