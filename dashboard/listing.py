"""All runs at a glance, for the list of runs: one short row each, read once and kept up to date for all tabs."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cm_server.notices import OPEN_STATES
from cm_server.report import RunInfo, SeriesPoint
from cm_server.stores.reader import StoreReader
from dashboard.components.summary import start_of
from dashboard.data import Source
from dashboard.figures.thinning import numbers, thin

FRESH_SECONDS = 0.5
"""Tabs that ask within this time share one reading."""
ENDED = ("finished", "failed", "lost")
POINTS = 60
"""Values of a sparkline at most."""


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        info: the run.
        layer: its deepest layer, which the figures are of; empty while it has none.
        step: of the newest snapshot; None while there is none.
        d_anchor: there; None where there is no number.
        start: the first comparable one.
        line: (step, d_anchor) of the newest comparable snapshots, thinned.
        interpretable: share of the layer's units, [0, 1]; None while there is no snapshot.
        alerts: open ones.
        moved: when its newest snapshot was captured, or the run last changed, seconds since 1970.
    """

    info: RunInfo
    layer: str = ""
    step: int | None = None
    d_anchor: float | None = None
    start: float | None = None
    line: tuple[tuple[int, float | None], ...] = ()
    interpretable: float | None = None
    alerts: int = 0
    moved: float = 0.0


@dataclass
class _Known:
    moment: tuple[float, int]
    layer: str
    updated: float = -math.inf
    points: list[SeriesPoint] = field(default_factory=list)


class Listing:
    """Reads the rows; safe to use from several threads.

    Args:
        source: the store as the dashboard sees it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._rows: list[RunRow] = []
        self._until = 0.0

    def rows(self) -> list[RunRow]:
        """One row per run, newest first; none while there is no store."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._rows = self._read()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._rows

    def _read(self) -> list[RunRow]:
        reader = self._source.reader()
        if reader is None:
            return []
        runs = reader.runs()
        alerts = Counter(alert.run for alert in reader.alerts() if alert.state in OPEN_STATES)
        self._known = {run.run: self._known[run.run] for run in runs if run.run in self._known}
        return [row_of(run, *self._points(reader, run), alerts[run.run]) for run in runs]

    def _points(self, reader: StoreReader, run: RunInfo) -> tuple[str, list[SeriesPoint]]:
        """The deepest layer's series; only what is new to it is read, and nothing of a run that did not change."""
        known = self._known.get(run.run)
        moment = run.created, run.revision
        ended = run.state in ENDED
        if ended and known is not None and known.moment == moment and known.updated == run.updated and known.layer:
            return known.layer, known.points
        layers = reader.layers(run.run)
        layer = layers[-1][0] if layers else ""
        if known is None or known.moment != moment or known.layer != layer:
            known = self._known[run.run] = _Known(moment, layer)
        after = max((point.sequence for point in known.points), default=0)
        fresh = reader.series(run.run, layer, after).get(layer, []) if layer else []
        known.points = sorted([*known.points, *fresh], key=lambda p: (p.step, p.sequence))
        known.updated = run.updated
        return layer, known.points


def row_of(info: RunInfo, layer: str, points: Sequence[SeriesPoint], alerts: int) -> RunRow:
    """A run's row.

    Args:
        info: the run.
        layer: its deepest layer.
        points: that layer's series, by step.
        alerts: open ones.
    """
    if not points:
        return RunRow(info, layer, alerts=alerts, moved=info.updated)
    last = points[-1]
    first = start_of(points, last)
    same = points[next(i for i, point in enumerate(points) if point is first) :]
    values = np.array([p.summary.d_anchor for p in same], dtype=float)
    kept = thin(values, POINTS)
    summary = last.summary
    return RunRow(
        info,
        layer,
        last.step,
        _number(summary.d_anchor),
        _number(same[0].summary.d_anchor),
        tuple((same[i].step, value) for i, value in zip(kept.tolist(), numbers(values[kept]), strict=True)),
        summary.interpretable / summary.units if summary.units else None,
        alerts,
        max(info.updated, last.committed_at),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
