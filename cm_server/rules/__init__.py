"""Rules read a layer's series and say what they find; the alert machine decides what becomes of it."""

from collections.abc import Sequence

from cm_server.core.alerting import Finding
from cm_server.report import LayerSummary
from cm_server.rules import trend, units

__all__ = ["find", "trend", "units"]


def find(series: Sequence[LayerSummary]) -> list[Finding]:
    """Everything that any rule sees at the end of a series; at most one finding per rule."""
    return trend.find(series) + units.find(series)
