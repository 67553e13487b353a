"""Numbers that are not stored and are recomputed from what is, on request, in small portions that never block a page.

Every portion ends after a moment; the page is told how much is done and asks again. What was computed is kept for all
tabs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cm_server import recompute
from cm_server.report import LayerReport, SeriesPoint
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from dashboard.chosen import NO_TEXT, Anchor
from dashboard.data import RunData, Source
from dashboard.figures.approach import UNITS, Approach

PORTION_SECONDS = 0.35
SNAPSHOTS = 16
"""Snapshots of a curve over other temperatures."""
WAYPOINTS = 40
"""Snapshots of a way toward an anchor."""
_KEPT = 4096


@dataclass(frozen=True)
class Progress:
    """How much of what was asked for is there; ``missing`` says in words why some of it never will be."""

    done: int = 0
    total: int = 0
    missing: str = ""

    @property
    def more(self) -> bool:
        """Whether to ask again."""
        return self.done < self.total


@dataclass(frozen=True)
class Temperatures:
    """d_anchor at several T: by T, steps and values; and how far the recomputed values are from the stored ones at
    the run's own T (NaN: not known), as a check."""

    curves: dict[float, tuple[list[int], list[float]]] = field(default_factory=dict)
    error: float = float("nan")
    progress: Progress = Progress()


@dataclass(frozen=True)
class _Waypoint:
    step: int
    group: tuple[float, ...]
    typical: tuple[float, ...]
    positions: np.ndarray
    last: tuple[np.ndarray, ...]


NOT_KEPT = (
    "The server keeps all similarities of every 10th capture only where it is told to (concept-monitor server "
    "--keep-similarities 10, the default since this version): of this layer it kept none, and the five best of each "
    "neuron do not suffice for another T."
)
STREAM = "Stream captures keep no similarities: their images change with every capture, and so would the curve."


class Recomputed:
    """Recomputes for all tabs; safe to use from several threads.

    Args:
        source: the store as the dashboard sees it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()

    def d_anchors(self, run: RunData, layer: str, temperatures: Sequence[float], step: int | None) -> Temperatures:
        """d_anchor at other temperatures, from snapshots that kept all similarities.

        Args:
            run: the run.
            layer: module path.
            temperatures: T > 0 each.
            step: None for all of the run, else only up to this step.
        """
        reader, point = self._source.reader(), run.at(layer, step)
        if reader is None or point is None:
            return Temperatures()
        if point.summary.kind == "stream":
            return Temperatures(progress=Progress(missing=STREAM))
        text = reader.text(run.info.map_fingerprint)
        steps = _evenly(_comparable(reader, run, layer, "levels", point), SNAPSHOTS)
        if not steps or text is None:
            return Temperatures(progress=Progress(missing=NO_TEXT if steps else NOT_KEPT))
        with self._lock:
            return self._portion(reader, run, layer, temperatures, steps, text)

    def approaches(
        self, run: RunData, layer: str, anchors: Sequence[Anchor], step: int | None
    ) -> tuple[list[Approach], Progress]:
        """How a layer's neurons moved with regard to some words, up to a step."""
        reader, point = self._source.reader(), run.at(layer, step)
        if reader is None or point is None or not anchors:
            return [], Progress()
        with self._lock:
            ways, progress = self._ways(reader, run, layer, anchors, point)
        return [_approach(one, index, ways) for index, one in enumerate(anchors) if ways], progress

    def _portion(
        self,
        reader: StoreReader,
        run: RunData,
        layer: str,
        temperatures: Sequence[float],
        steps: Sequence[tuple[int, int]],
        text: np.ndarray,
    ) -> Temperatures:
        until = time.monotonic() + PORTION_SECONDS
        stored = {point.sequence: point.summary for point in run.series[layer]}
        own = stored[steps[0][0]].temperature
        anchors = self._anchors(run, len(text))
        wanted = [(sequence, step, t) for sequence, step in steps for t in dict.fromkeys((*temperatures, own))]
        values: dict[tuple[int, float], float] = {}
        report: tuple[int, LayerReport | None] | None = None
        for sequence, step, temperature in wanted:
            key = ("T", run.info.run, run.info.created, layer, sequence, temperature)
            if key not in self._found and time.monotonic() < until:
                if report is None or report[0] != sequence:
                    report = (sequence, _exactly(reader, run.info.run, layer, sequence, step))
                value = recompute.d_anchor(report[1], text, anchors, temperature) if report[1] else None
                self._keep(key, float("nan") if value is None else value)
            if key in self._found:
                values[sequence, temperature] = self._found[key]
        errors = [abs(values[q, own] - stored[q].d_anchor) for q, _ in steps if (q, own) in values]
        error = max((one for one in errors if np.isfinite(one)), default=np.nan)
        curves = {t: _curve(steps, values, t) for t in temperatures}
        return Temperatures(curves, float(error), Progress(len(values), len(wanted)))

    def _anchors(self, run: RunData, words: int) -> np.ndarray:
        layout = self._source.concept_map(run)
        return np.arange(words) if layout is None else np.asarray(layout.anchors, dtype=np.int64)

    def _ways(
        self,
        reader: StoreReader,
        run: RunData,
        layer: str,
        anchors: Sequence[Anchor],
        point: SeriesPoint,
    ) -> tuple[list[_Waypoint], Progress]:
        until = time.monotonic() + PORTION_SECONDS
        steps = _evenly(_comparable(reader, run, layer, "embeddings", point), WAYPOINTS)
        found: list[_Waypoint | None] = []
        for sequence, step in steps:
            key = ("way", run.info.run, run.info.map_fingerprint, layer, sequence, *(one.word for one in anchors))
            if key not in self._found and time.monotonic() < until:
                report = _exactly(reader, run.info.run, layer, sequence, step)
                self._keep(key, _waypoint(report, step, anchors) if report else None)
            if key in self._found:
                found.append(self._found[key])
        return [way for way in found if way is not None], Progress(len(found), len(steps))

    def _keep(self, key: Hashable, value: Any) -> None:
        self._found[key] = value
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)


def _comparable(reader: StoreReader, run: RunData, layer: str, array: str, point: SeriesPoint) -> list[tuple[int, int]]:
    """Sequence and step of the snapshots up to a point that hold an array and have the point's fingerprint."""
    mark = point.summary.fingerprint
    known = {p.sequence for p in run.series.get(layer, []) if p.summary.fingerprint == mark and p.step <= point.step}
    return [(q, step) for q, step in reader.steps_with(run.info.run, layer, array) if q in known]


def _exactly(reader: StoreReader, run: str, layer: str, sequence: int, step: int) -> LayerReport | None:
    """This very snapshot's report; None where its arrays are lost, or given up (an earlier one's would be read)."""
    try:
        found = reader.report(run, layer, step)
    except StoreError:
        return None
    return found[1] if found and found[0].sequence == sequence else None


def _waypoint(report: LayerReport, step: int, anchors: Sequence[Anchor]) -> _Waypoint:
    units = report.arrays.embeddings
    far = tuple(recompute.distances(units, one.vector) for one in anchors)
    typical = tuple(float(np.median(d[np.isfinite(d)])) if np.isfinite(d).any() else float("nan") for d in far)
    group = tuple(recompute.group_distance(units, one.vector) for one in anchors)
    nearest = tuple(np.argsort(np.where(np.isfinite(d), d, np.inf), kind="stable")[:UNITS] for d in far)
    return _Waypoint(step, group, typical, report.arrays.positions, nearest)


def _approach(anchor: Anchor, index: int, ways: Sequence[_Waypoint]) -> Approach:
    units = ways[-1].last[index]
    return Approach(
        word=anchor.word,
        steps=np.array([way.step for way in ways], dtype=np.int64),
        group=np.array([way.group[index] for way in ways]),
        typical=np.array([way.typical[index] for way in ways]),
        nearest=tuple(int(unit) for unit in units),
        places=np.array([way.positions[units] for way in ways]).reshape(len(ways), len(units), 2),
        star=anchor.star,
    )


def _curve(
    steps: Sequence[tuple[int, int]], values: dict[tuple[int, float], float], temperature: float
) -> tuple[list[int], list[float]]:
    there = [(step, values[q, temperature]) for q, step in steps if (q, temperature) in values]
    return [step for step, _ in there], [value for _, value in there]


def _evenly(steps: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` of them, evenly, with the first and the last."""
    if len(steps) <= limit:
        return list(steps)
    return [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, limit).round().astype(int))]
