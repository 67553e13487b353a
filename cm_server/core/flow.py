"""How a run's snapshots arrive: whether they still come, and how many are lost on the way. The clock is an event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Protocol

from cm_server.core.alerting import AlertMachine, Finding, Patience, Transition

_KEPT = 41


@dataclass(frozen=True)
class FlowView:
    """What a rule on the flow sees.

    Attributes:
        silence: seconds since the last snapshot.
        interval: median seconds between the last 40 snapshots; None before the second.
        arrived, lost: among the last captures, those that became snapshots and those that never will.
        reasons: why they were lost, the newest last.
        step: of the last snapshot.
        open: by rule, the newest finding of what fires.
    """

    silence: float
    interval: float | None
    arrived: int
    lost: int
    reasons: tuple[str, ...]
    step: int
    open: Mapping[str, Finding]


class FlowRule(Protocol):
    """Reads a flow's view; a frozen dataclass whose fields are its settings."""

    @property
    def name(self) -> str: ...

    @property
    def hold(self) -> int: ...

    @property
    def clear(self) -> int: ...

    def find_flow(self, view: FlowView) -> Finding | None:
        """The finding, or None if all is well."""
        ...


class FlowWatch:
    """The flow of one run, and its alerts.

    Args:
        rules: asked at every event.
        now: when watching begins, seconds; a restarted server counts silence from its own start.
    """

    def __init__(self, rules: Sequence[FlowRule], now: float) -> None:
        self._rules = rules
        self.machine = AlertMachine({rule.name: Patience(rule.hold, rule.clear) for rule in rules})
        self._heard = now
        self._times: deque[float] = deque(maxlen=_KEPT)
        self._outcomes: deque[str] = deque(maxlen=_KEPT - 1)
        self._step = 0

    def snapshot(self, step: int, now: float) -> list[Transition]:
        """A snapshot arrived."""
        self._step, self._heard = step, now
        self._times.append(now)
        self._outcomes.append("")
        return self._evaluate(now)

    def lost(self, reason: str, now: float) -> list[Transition]:
        """A capture was made, or tried, and will never be a snapshot."""
        self._outcomes.append(reason or "no reason given")
        return self._evaluate(now)

    def recall(self, past: Iterable[tuple[float, str, int]]) -> None:
        """Takes what happened before a restart, oldest first: ``(time, why it was lost or empty, step)``."""
        for time, reason, step in past:
            self._outcomes.append(reason)
            if not reason:
                self._times.append(time)
                self._step = step

    def tick(self, now: float) -> list[Transition]:
        """Time passes. Nothing is asked of a run that has sent nothing yet: its training may not have begun."""
        return self._evaluate(now) if self._times else []

    def end(self) -> list[Transition]:
        """The run is over."""
        return self.machine.end(self._step)

    def _evaluate(self, now: float) -> list[Transition]:
        between = [later - earlier for earlier, later in pairwise(self._times)]
        reasons = tuple(reason for reason in self._outcomes if reason)
        view = FlowView(
            silence=now - self._heard,
            interval=median(between) if between else None,
            arrived=len(self._outcomes) - len(reasons),
            lost=len(reasons),
            reasons=reasons,
            step=self._step,
            open=self.machine.open,
        )
        found = [finding for rule in self._rules if (finding := rule.find_flow(view)) is not None]
        return self.machine.evaluate(self._step, found)
