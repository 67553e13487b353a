"""When to capture. Pure: steps and seconds in, yes or no out.

`every`, `log_spaced` and `at` make `Marks`, which users hand to ``watch(every=…)``; `Budget` is what holds without one.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from cm_client.errors import ClientError

SHARE = 0.01
BUDGET_STEPS = 10
"""Steps between captures, at least, however cheap they are: nearer than that nothing new is to be seen."""
LOOK = 4
"""Steps after which it is asked again whether a capture is paid for: asking costs, too."""
NEVER = 2**62
_REMEMBERED = 4
"""Captures whose cost says what the next one may cost."""


class Schedule(Protocol):
    """Decides at each step; is told of each capture.

    Attributes:
        earliest: before this step `due` need not be asked: it would say no.
    """

    earliest: int

    def due(self, step: int, now: float, spent: float) -> bool:
        """Whether to capture at ``step`` (steps done).

        Args:
            step: steps done.
            now: seconds since the first step.
            spent: seconds of these that the client has cost, whatever for.
        """
        ...

    def captured(self, step: int, now: float, seconds: float) -> None:
        """A capture at ``step`` ended at ``now`` and took ``seconds``."""
        ...


@dataclass(frozen=True)
class Marks:
    """Steps fixed beforehand: ``after(step)`` is the first of them beyond ``step``, None where there is no more.

    Step 0 is always one of them. Where steps jump, the first one at or past a mark is captured, once.
    """

    after: Callable[[int], int | None]


def every(steps: int) -> Marks:
    """Every so many steps: 0, n, 2n, …

    Raises:
        ClientError: ``steps`` is not a whole number from 1.

    Example:
        >>> marks = every(50)
        >>> marks.after(0), marks.after(50), marks.after(99)
        (50, 100, 100)
    """
    n = _whole("every", steps)
    return Marks(lambda step: (step // n + 1) * n)


def log_spaced(per_decade: int = 8, first: int = 1) -> Marks:
    """Often in the beginning, when most changes, and then ever more rarely: so many captures per factor of ten.

    Args:
        per_decade: captures from step s to step 10 s.
        first: the first step after 0.

    Raises:
        ClientError: a number is not a whole number from 1.

    Example:
        >>> marks, step, found = log_spaced(per_decade=3), 0, []
        >>> while step < 1000:
        ...     step = marks.after(step)
        ...     found.append(step)
        >>> found
        [1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]
    """
    per, start = _whole("per_decade", per_decade), _whole("first", first)

    def after(step: int) -> int:
        if step < start:
            return start
        k = math.floor(per * math.log10(step / start))
        while (mark := round(start * 10 ** (k / per))) <= step:
            k += 1
        return mark

    return Marks(after)


def at(steps: Iterable[int]) -> Marks:
    """At 0 and the given steps.

    Raises:
        ClientError: a step is not a whole number from 0.

    Example:
        >>> marks = at([100, 10])
        >>> marks.after(0), marks.after(10), marks.after(100)
        (10, 100, None)
    """
    chosen = sorted({_whole("at", step, 0) for step in steps})

    def after(step: int) -> int | None:
        place = bisect.bisect_right(chosen, step)
        return chosen[place] if place < len(chosen) else None

    return Marks(after)


class AtMarks:
    """Captures at `Marks`."""

    def __init__(self, marks: Marks) -> None:
        self._after = marks.after
        self._last = -1
        self.earliest = 0

    def due(self, step: int, now: float, spent: float) -> bool:
        """True once per mark."""
        return step >= self.earliest

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember the step."""
        self._last = max(self._last, step)
        mark = self._after(self._last)
        self.earliest = NEVER if mark is None else mark


class Chosen:
    """Whenever the user's function says so, once a step."""

    def __init__(self, choose: Callable[[int], bool]) -> None:
        self._choose = choose
        self._last = -1
        self.earliest = 0

    def due(self, step: int, now: float, spent: float) -> bool:
        """The function's answer; False at a step captured already."""
        return step != self._last and bool(self._choose(step))

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember the step."""
        self._last = step


class Budget:
    """As often as a share of the wall time pays for: what a capture costs is saved up before it is taken.

    Laws, for any sequence of step times and costs, with ``spent`` all that the client has cost so far:

    1. Whenever a capture but the first begins, ``spent + (the dearest of the last captures) <= share * now``. So the
       share is kept *after* it as well, unless it costs more than any of the last four; and what that one cost too
       much is paid back before the next.
    2. After a capture of s seconds none begins for s / share seconds: time in which nothing was captured (a long
       validation) is not made up for by a burst.

    What cannot be kept: the first capture is owed to the user and comes before anything was saved, and so does the
    probe set's collection; the one at the end of the training is not asked about. Where the hooks alone cost more than
    the share, nothing more is captured, and the share is what they cost.
    """

    def __init__(self, share: float = SHARE, steps: int = BUDGET_STEPS) -> None:
        self._share, self._steps = share, steps
        self._last = -1
        self.earliest = 0
        self._not_before = 0.0
        self._costs: deque[float] = deque(maxlen=_REMEMBERED)

    def due(self, step: int, now: float, spent: float) -> bool:
        """True where the steps since the last capture are enough and the next one is paid for."""
        if self._last < 0:
            return True
        if step < self.earliest:
            return False
        paid = now >= self._not_before and spent + max(self._costs) <= self._share * now
        if not paid:
            self.earliest = step + LOOK
        return paid

    def captured(self, step: int, now: float, seconds: float) -> None:
        """Remember step, end and cost."""
        self._last = step
        self.earliest = step + self._steps
        self._costs.append(seconds)
        self._not_before = now + seconds / self._share


Every = int | Marks | Callable[[int], bool] | None
"""What users may say: n steps, `Marks`, a function of the step, or None for the budget."""


def make_schedule(every: Every, share: float = SHARE) -> Schedule:
    """The schedule for `watch`'s ``every``, or one that keeps to ``share`` of the time where that is None."""
    if every is None:
        return Budget(share)
    if isinstance(every, Marks):
        return AtMarks(every)
    return Chosen(every) if callable(every) else AtMarks(_every(every))


_every = every  # `make_schedule` has an argument of that name, as `watch` does


def _whole(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ClientError(f"{name} {value!r}: give a whole number from {least}")
    return value
