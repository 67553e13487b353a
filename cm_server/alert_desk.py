"""Alerts of all runs: feeds the rules, keeps the machines, stores transitions and tells the notifiers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cm_server import rules
from cm_server.core.alerting import AlertMachine, Finding, Transition
from cm_server.notifiers import Notifier
from cm_server.report import Alert, LayerSummary, SnapshotReport
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

OPEN_STATES = ("firing", "recovering")


class _Series:
    """One layer of one run: its summaries of the newest fingerprint and the machine over them."""

    def __init__(self) -> None:
        self.points: list[LayerSummary] = []
        self.last_step = -1
        self.machine = AlertMachine()

    def add(self, step: int, summary: LayerSummary) -> list[Transition]:
        """Takes a summary; another fingerprint ends the series and begins a new one."""
        changes: list[Transition] = []
        if self.points and self.points[-1].fingerprint != summary.fingerprint:
            changes = self.machine.end(step)
            self.points = []
        self.points.append(summary)
        self.last_step = step
        return changes + self.machine.evaluate(step, rules.find(self.points))


class AlertDesk:
    """Watches the last captured layer of every run, the one that carries the concepts.

    Earlier layers respond to edges and colours, and need not cover a vocabulary of objects.

    Args:
        writer: where alerts are kept.
        reader: a restarted server replays a run's series from here, without telling anybody twice.
        notifiers: told of every transition.
        on_alert: called with every alert (events, the client's notice).
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        notifiers: Sequence[Notifier],
        on_alert: Callable[[Alert], None],
    ) -> None:
        self._writer, self._reader = writer, reader
        self._notifiers, self._on_alert = notifiers, on_alert
        self._series: dict[tuple[str, str], _Series] = {}
        self._open: dict[tuple[str, str, str], Alert] = {}

    def report(self, report: SnapshotReport) -> None:
        """Takes a committed report.

        Where it does not come after the others (a resumed process goes back to a checkpoint, or an earlier part of the
        run comes late), the series is read anew; what lies in the past is nothing to alert anybody of.
        """
        layer = list(report.layers)[-1]
        series = self._series.get((report.run, layer))
        if series is not None and report.step <= series.last_step:
            series = None
            del self._series[report.run, layer]
        if series is None:
            points = self._reader.series(report.run, layer).get(layer, [])
            if points and points[-1].step > report.step:
                return
            series = self._resume(report.run, layer, report.step)
        for change in series.add(report.step, report.layers[layer].summary):
            self._apply(report.run, layer, change)

    def end(self, run: str, step: int) -> None:
        """The run is over: what still fires has ended."""
        for key in [key for key in self._series if key[0] == run]:
            for change in self._series.pop(key).machine.end(step):
                self._apply(run, key[1], change)

    def _resume(self, run: str, layer: str, before_step: int) -> _Series:
        series = self._series[run, layer] = _Series()
        for point in self._reader.series(run, layer).get(layer, []):
            if point.step < before_step:
                series.add(point.step, point.summary)
        for alert in self._reader.alerts(run):
            if alert.layer == layer and alert.state in OPEN_STATES:
                self._open[run, layer, alert.rule] = alert
                if alert.rule not in series.machine.open_rules:  # what it was about is superseded
                    seen = Finding(alert.rule, alert.severity, alert.value, alert.message, alert.details)
                    self._apply(run, layer, Transition(alert.rule, "ended", before_step, seen))
        return series

    def _apply(self, run: str, layer: str, change: Transition) -> None:
        now = time.time()
        finding = change.finding
        alert = Alert(
            id=0,
            run=run,
            layer=layer,
            rule=change.rule,
            severity=finding.severity,
            state=change.state,
            step=change.step,
            opened=now,
            updated=now,
            value=finding.value,
            message=finding.message,
            details=finding.details,
        )
        known = self._open.pop((run, layer, change.rule), None)
        if known is not None:
            alert = replace(alert, id=known.id, opened=known.opened, step=known.step)
        alert = replace(alert, id=self._writer.save_alert(alert))
        if alert.state in OPEN_STATES:
            self._open[run, layer, change.rule] = alert
        for notifier in self._notifiers:
            notifier.notify(alert)
        self._on_alert(alert)
