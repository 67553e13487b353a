"""One run under watch: a series per watched layer, and the flow of its snapshots, brought up to date from the store."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import merge

from cm_server.anchors import WISHES, words_of
from cm_server.core.alerting import Finding, Transition
from cm_server.core.flow import FlowWatch
from cm_server.core.watching import Circumstances, LayerWatch
from cm_server.report import SeriesPoint, SnapshotReport
from cm_server.rules import LayerSettings, RuleBook
from cm_server.rules.book import watches
from cm_server.stores.anchors import AnchorReader
from cm_server.stores.reader import StoreReader

logger = logging.getLogger(__name__)

LayerChange = tuple[str, Transition]


class RunWatch:
    """The alerts of one run.

    Args:
        book: the rules' settings.
        reader: the run's past, replayed without telling anybody; read only here and for a reference run.
        report: the newest report, already in the store and not yet looked at.
        now: seconds since 1970.
    """

    def __init__(self, book: RuleBook, reader: StoreReader, report: SnapshotReport, now: float) -> None:
        self._book, self._reader, self._run = book, reader, report.run
        info = reader.run(report.run)
        self._name = info.name if info else ""
        self._planned = info.planned_steps if info else None
        self._anchors = AnchorReader(reader.connection).of(self._run)
        self._categories = _categories(reader, info.concept_fingerprint if info else "")
        settings = book.settings(self._run, self._name)
        self._layers = settings.layers
        self._flow = FlowWatch(settings.flow_rules, now)
        self._watches: dict[tuple[str, str], LayerWatch] = {}
        self._last_step: dict[str, int] = {}
        self._gap = 0
        self._replay(report)

    @property
    def open(self) -> dict[tuple[str, str], Finding]:
        """By layer (empty: the run as a whole) and rule, what fires."""
        found = {("", rule): finding for rule, finding in self._flow.machine.open.items()}
        for (layer, _), watch in self._watches.items():
            found |= {(layer, rule): finding for rule, finding in watch.machine.open.items()}
        return found

    def is_behind(self, report: SnapshotReport) -> bool:
        """Whether a report does not come after those of its kind that were taken."""
        return report.step <= self._last_step.get(_kind(report), -1)

    def restore(self, finding: Finding) -> None:
        """An alert on the run's flow that fired before the server was restarted: silence leaves no trace to replay."""
        self._flow.machine.restore(finding)

    def take(self, report: SnapshotReport, now: float) -> list[LayerChange]:
        """Takes the next report."""
        self._last_step[_kind(report)] = report.step
        deepest = list(report.layers)[-1]
        changes: list[LayerChange] = []
        for layer, found in report.layers.items():
            if watches(self._layers, layer, deepest):
                watch = self._watch(layer, found.summary.kind)
                changes += [(layer, change) for change in watch.take(report.step, found.summary)]
        flowing = [*self._lost(now), *self._flow.snapshot(report.step, now)]
        return changes + [("", change) for change in flowing]

    def tick(self, now: float) -> list[Transition]:
        """Time passes."""
        return self._flow.tick(now)

    def end(self, step: int) -> list[LayerChange]:
        """The run is over."""
        layers = [(layer, change) for (layer, _), watch in self._watches.items() for change in watch.end(step)]
        return layers + [("", change) for change in self._flow.end()]

    def _lost(self, now: float) -> Iterable[Transition]:
        newest = self._reader.newest_gap()
        if newest <= self._gap:
            return
        for gap in self._reader.gaps(self._run, self._gap):
            yield from self._flow.lost(gap.reason, now)
        self._gap = newest

    def _replay(self, report: SnapshotReport) -> None:
        layers = list(report.layers)
        past = self._reader.series(self._run)
        arrivals: dict[int, tuple[float, str, int]] = {}
        for layer in (name for name in layers if watches(self._layers, name, layers[-1])):
            for kind, points in by_kind(past.get(layer, [])).items():
                for point in points:
                    if point.step < report.step or (kind != _kind(report) and point.step == report.step):
                        self._watch(layer, kind).take(point.step, point.summary)
                        self._last_step[kind] = point.step
                        arrivals[point.sequence] = (point.committed_at, "", point.step)
        self._gap = self._reader.newest_gap()
        gaps = self._reader.gaps(self._run)
        lost = ((gap.time, gap.reason, -1) for gap in gaps)
        # Each kind in the order in which it came, even where the clock was set back; between them the time decides.
        self._flow.recall(merge((arrivals[key] for key in sorted(arrivals)), lost))

    def _watch(self, layer: str, kind: str) -> LayerWatch:
        watch = self._watches.get((layer, kind))
        if watch is None:
            settings = self._book.settings(self._run, self._name, layer)
            watch = self._watches[layer, kind] = LayerWatch(settings.rules, self._about(settings, layer))
        return watch

    def _about(self, settings: LayerSettings, layer: str) -> Circumstances:
        reference = reference_of(self._reader, settings.reference, layer) if settings.reference else {}
        if settings.reference and not reference:
            logger.warning("the reference run %r has no values of %s in this store", settings.reference, layer)
        known = {"planned_steps": self._planned, "categories": self._categories, "reference": reference}
        about = settings.about
        wishes = {wish: (*getattr(about, wish), *words_of(self._anchors, wish)) for wish in WISHES}
        return replace(about, **known, **wishes)


def by_kind(points: Sequence[SeriesPoint]) -> dict[str, list[SeriesPoint]]:
    """A layer's points by what they were captured on, ``probe`` or ``stream``: two series, however they alternate.

    Args:
        points: by step, as the reader gives them; of several at one step the last counts.
    """
    found: dict[str, dict[int, SeriesPoint]] = {}
    for point in points:
        found.setdefault(point.summary.kind, {})[point.step] = point
    return {kind: list(by_step.values()) for kind, by_step in found.items()}


def reference_of(reader: StoreReader, run: str, layer: str) -> dict[str, list[tuple[int, float]]]:
    """A healthy run's ``(step, d_anchor)`` by fingerprint; empty if the store does not have it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in reader.series(run, layer).get(layer, []):
        if math.isfinite(point.summary.d_anchor):
            found.setdefault(point.summary.fingerprint, []).append((point.step, point.summary.d_anchor))
    return found


def _kind(report: SnapshotReport) -> str:
    return next(iter(report.layers.values())).summary.kind


def _categories(reader: StoreReader, concepts: str) -> frozenset[str] | None:
    return frozenset(reader.words(concepts)[1]) - {""} if concepts else None
