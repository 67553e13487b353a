"""Alerts of all runs: feeds the watches, stores what becomes of them, and tells the notifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cm_server.clock import SteadyClock
from cm_server.core.alerting import OPEN_STATES, Finding, Transition
from cm_server.core.moves import moves
from cm_server.links import step_path
from cm_server.notifiers import Notifier
from cm_server.report import Alert, LayerReport, SnapshotReport
from cm_server.rules import RuleBook
from cm_server.run_watch import RunWatch
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

logger = logging.getLogger(__name__)

_TICK_SECONDS = 5.0
Key = tuple[str, str, str]
"""Run, layer (empty: the run as a whole) and rule: what makes two alerts the same."""
News = list[tuple[Alert, bool]]
"""Alerts that were stored, and whether people hear of each."""


class AlertDesk:
    """Watches the layers that the rule book names, by default the deepest one, which carries the concepts.

    Earlier layers respond to edges and colours, and need not cover a vocabulary of objects.

    Args:
        writer: where alerts are kept.
        reader: a restarted server replays a run's series from here, without telling anybody twice.
        notifiers: told of every transition that is news.
        on_alert: called with every alert that is news (events, the client's notice).
        book: the rules' settings; the defaults if None.
        follows: told of every transition that is stored, news or not: delivery compares what an alert is with what
            each channel knows.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        notifiers: Sequence[Notifier],
        on_alert: Callable[[Alert], None],
        book: RuleBook | None = None,
        follows: Notifier | None = None,
    ) -> None:
        self._writer, self._reader = writer, reader
        self._notifiers, self._on_alert = notifiers, on_alert
        self._book, self._follows = book or RuleBook(), follows
        self._clock = SteadyClock()
        self._runs: dict[str, RunWatch] = {}
        self._open: dict[Key, Alert] = {}
        self._ticked = 0.0

    def report(self, report: SnapshotReport) -> None:
        """Takes a committed report, and tells what it raises."""
        with self._all_or_nothing(report.run):
            news = self.weigh(report)
        self.tell(news)

    def weigh(self, report: SnapshotReport) -> News:
        """Takes a report and stores what it raises, so that both can be one transaction; `tell` comes after it.

        Where it does not come after the others (a resumed process goes back to a checkpoint, or an earlier part of the
        run comes late), the series is read anew; what lies in the past is nothing to alert anybody of.
        """
        now, news = self._clock(), News()
        watch = self._runs.get(report.run)
        if watch is None or watch.is_behind(report):
            if self._newest_step(report) > report.step:
                return news
            watch = self._resume(report, now, news)
        for layer, change in watch.take(report, now):
            self._apply(report.run, layer, change, news, report.layers.get(layer))
        return news

    def tell(self, news: News) -> None:
        """Tells people, and the delivery, what is in the store now."""
        for alert, told in news:
            if self._follows is not None:
                self._follows.notify(alert)
            if told:
                for notifier in self._notifiers:
                    notifier.notify(alert)
                self._on_alert(alert)

    def forget(self, run: str) -> None:
        """Nothing of the run is held any more, and nobody is told; its next report reads the store.

        A transaction failed, so that what was weighed is not there, or the run is to be deleted.
        """
        self._runs.pop(run, None)
        self._open = {key: alert for key, alert in self._open.items() if key[0] != run}

    def tick(self, now: float | None = None) -> None:
        """Time passes: runs that send nothing any more are noticed.

        Args:
            now: seconds since 1970; the clock's if None. More often than every five seconds it does nothing.
        """
        now = self._clock() if now is None else now
        if abs(now - self._ticked) < _TICK_SECONDS:
            return
        self._ticked = now
        for run, watch in list(self._runs.items()):
            news = News()
            with self._all_or_nothing(run):
                for change in watch.tick(now):
                    self._apply(run, "", change, news)
            self.tell(news)

    def end(self, run: str, step: int) -> None:
        """The run is over: what still fires has ended, also where an earlier server raised it."""
        news = News()
        with self._all_or_nothing(run):
            watch = self._runs.get(run)
            for layer, change in watch.end(step) if watch is not None else ():
                self._apply(run, layer, change, news)
            ended = {alert.id for alert, _ in news}
            for alert in self._reader.alerts(run):
                if alert.state in OPEN_STATES and alert.id not in ended:
                    self._open[run, alert.layer, alert.rule] = alert
                    self._apply(run, alert.layer, Transition(alert.rule, "ended", step, _finding_of(alert)), news)
        self.forget(run)
        self.tell(news)

    @contextmanager
    def _all_or_nothing(self, run: str) -> Iterator[None]:
        try:
            with self._writer.together():
                yield
        except BaseException:
            self.forget(run)
            raise

    def reconsider(self, run: str) -> None:
        """What is watched for changed: the run's series is read anew with its next report, telling nobody twice."""
        self._runs.pop(run, None)

    def _newest_step(self, report: SnapshotReport) -> int:
        last = self._reader.series(report.run, list(report.layers)[-1]).get(list(report.layers)[-1], [])
        return last[-1].step if last else report.step

    def _resume(self, report: SnapshotReport, now: float, news: News) -> RunWatch:
        """A run's watch, brought to where it was before this report; alerts and store are made to agree."""
        run = report.run
        watch = self._runs[run] = RunWatch(self._book, self._reader, report, now)
        newest = {(a.layer, a.rule): a for a in reversed(self._reader.alerts(run))}
        before = {key: alert for key, alert in newest.items() if alert.state in OPEN_STATES}
        self._open |= {(run, *key): alert for key, alert in before.items()}
        for (layer, rule), alert in before.items():
            finding = _finding_of(alert)
            if layer == "":
                watch.restore(finding)
            elif (layer, rule) not in watch.open:  # what it was about is superseded, or the rule is switched off
                self._apply(run, layer, Transition(rule, "ended", report.step, finding), news)
        for (layer, rule), finding in watch.open.items():
            if layer and (layer, rule) not in before:
                change = Transition(rule, "firing", report.step, finding)
                self._reopen(run, layer, change, newest.get((layer, rule)), news)
        return watch

    def _reopen(self, run: str, layer: str, change: Transition, last: Alert | None, news: News) -> None:
        """An alert that fires but is not open in the store: closed when its run ended, or lost in a crash."""
        if last is not None and last.state == "ended":
            self._open[run, layer, change.rule] = last
            change = replace(change, again=True)
        self._apply(run, layer, change, news)

    def _apply(self, run: str, layer: str, change: Transition, news: News, report: LayerReport | None = None) -> None:
        if change.state == "pending":
            return
        known = self._open.pop((run, layer, change.rule), None)
        alert = _alert(run, layer, change, self._clock())
        if known is not None:
            kept = replace(alert, id=known.id, opened=known.opened, step=known.step)
            quiet = change.state == "recovering" or change.again  # the words stay those that people were told
            alert = replace(kept, message=known.message, details=known.details) if quiet else kept
        elif change.state == "recovering":
            return
        if change.told and change.state == "firing" and report is not None:
            alert = replace(alert, message=alert.message + self._moved(run, layer, change, report))
        alert = replace(alert, id=self._writer.save_alert(alert))
        if alert.state in OPEN_STATES:
            self._open[run, layer, change.rule] = alert
        news.append((alert, change.told))

    def _moved(self, run: str, layer: str, change: Transition, report: LayerReport) -> str:
        since = change.finding.details.get("since_step")
        info = self._reader.run(run)
        if not isinstance(since, int) or since >= change.step or info is None or not info.concept_fingerprint:
            return ""
        try:
            found = self._reader.report(run, layer, since)
            words = self._reader.words(info.concept_fingerprint)[0]
        except (StoreError, OSError) as error:
            logger.warning("run %s: the report of step %d cannot be compared: %s", run, since, error)
            return ""
        if found is None or found[1].summary.fingerprint != report.summary.fingerprint:
            return ""
        return moves(found[1].arrays, report.arrays, words).sentence(found[0].step)


def _alert(run: str, layer: str, change: Transition, now: float) -> Alert:
    finding = change.finding
    return Alert(
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
        details={**finding.details, "path": step_path(run, layer, change.step)},
    )


def _finding_of(alert: Alert) -> Finding:
    severity = alert.severity if alert.severity in ("info", "warning", "error") else "warning"
    return Finding(alert.rule, severity, alert.value, alert.message, alert.details)  # type: ignore[arg-type]
