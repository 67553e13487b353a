"""NoData and StreamDrops: nothing arrives any more, or too much is lost on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.flow import FlowView
from cm_server.rules.base import RuleSettings, setting


@dataclass(frozen=True, kw_only=True)
class NoData(RuleSettings):
    """No snapshot for much longer than usual. It says nothing about the trend, and resolves nothing about it."""

    hold: int = setting(1, "evaluations in a row that it must hold for to fire", 1, 1000)
    clear: int = setting(1, "evaluations in a row that it must be absent for to resolve", 1, 1000)
    seconds: float = setting(300.0, "shortest silence that counts", 0)
    intervals: float = setting(10.0, "and at least this many of the run's usual intervals", 0)

    def find_flow(self, view: FlowView) -> Finding | None:
        """See `FlowRule`."""
        usual = view.interval or 0.0
        if view.silence <= max(self.seconds, self.intervals * usual):
            return None
        rhythm = f"; usually one comes every {_duration(usual)}" if usual else ""
        message = (
            f"No snapshot for {_duration(view.silence)}, since step {view.step:,}{rhythm}. The training process may "
            "have ended, hang, or have lost its connection: look whether it still runs."
        )
        return Finding("NoData", "warning", view.silence, message, {"silence": view.silence, "usual": usual})


@dataclass(frozen=True, kw_only=True)
class StreamDrops(RuleSettings):
    """Many captures never become snapshots; the curves have holes, and what is between them is not seen."""

    share: float = setting(0.5, "share of the last 40 captures that were lost", 0, 1)
    least: int = setting(10, "captures lost at least", 1, 40)

    def find_flow(self, view: FlowView) -> Finding | None:
        """See `FlowRule`."""
        share = view.lost / max(1, view.lost + view.arrived)
        ease = 0.5 if self.name in view.open else 1.0
        if view.lost < ease * self.least or share < ease * self.share:
            return None
        often = Counter(view.reasons).most_common(1)[0][0]
        message = (
            f"{view.lost} of the last {view.lost + view.arrived} captures were lost before they became snapshots (most "
            f"often: {often}). Training is not harmed and the values that did arrive are right, but changes between "
            "them go unseen: capture less often, or give the server more to work with."
        )
        return Finding("StreamDrops", "warning", share, message, {"lost": view.lost, "arrived": view.arrived})


def _duration(seconds: float) -> str:
    """In words.

    >>> _duration(75), _duration(9000)
    ('75 s', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
