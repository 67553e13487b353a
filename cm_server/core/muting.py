"""Alerts that a worse one explains. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cm_server.notices import OPEN_STATES, RANK
from cm_server.report import Alert

SOURCES = ("DeadLayer", "NonFinite")
"""A layer that is dead or not finite explains whatever else its numbers show."""
EXPLAINED = (
    "ConceptStall",
    "ConceptPlateau",
    "ConceptRise",
    "ConceptJump",
    "DeadUnits",
    "InterpretableCollapse",
    "MissingCategories",
    "BelowReference",
)
"""What they explain. *NoData* and *StreamDrops* are on neither side: missing data explains no trend, and no trend
explains missing data."""


def inhibited(alert: Alert, alerts: Iterable[Alert]) -> bool:
    """Whether a worse alert already says it: `SOURCES` for the same layer, or an error of the same fingerprint.

    Args:
        alert: the one to be told.
        alerts: all that are known, itself included.
    """
    return any(_inhibits(other, alert) for other in alerts)


def _inhibits(source: Alert, target: Alert) -> bool:
    if source.id == target.id or (source.run, source.layer) != (target.run, target.layer):
        return False
    together = source.state == target.state == "ended"  # the end of a run closes the cause and what it explains
    if source.state not in OPEN_STATES and not together:
        return False
    if source.rule == target.rule:
        return RANK.get(source.severity, 0) > RANK.get(target.severity, 0)
    return source.rule in SOURCES and target.rule in EXPLAINED
