"""What becomes of the analysis's results: stored, acknowledged, told. In this order, whatever happens in between.

A snapshot, the alerts that it raises and the state of its run are one transaction; the ack comes after it, and people
hear of alerts after that. Reports of several runs that wait at the same time share one. A result that cannot be stored
stays in front of all others and is tried again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from cm_server.alert_desk import AlertDesk, News
from cm_server.events import EventPublisher
from cm_server.fault_points import reach
from cm_server.ingest import Ingest
from cm_server.metrics import Metrics
from cm_server.report import SnapshotReport
from cm_server.stores.errors import why_unwritable
from cm_server.stores.writer import StoreWriter
from cm_server.worker import Activity, AnalysisWorker, Done, Failed, Ready, Result

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 64
"""Reports in one transaction."""
_REASON = 200
"""Characters of a reason that clients and dashboards are told."""


class ResultDesk:
    """Takes what the worker gives.

    Args:
        writer: the store.
        worker: where results come from.
        publisher: tells dashboards when to look.
        ingest: acknowledges to clients.
        alerts: weighs reports.
        metrics: what is counted.
    """

    def __init__(
        self,
        writer: StoreWriter,
        worker: AnalysisWorker,
        publisher: EventPublisher,
        ingest: Ingest,
        alerts: AlertDesk,
        metrics: Metrics,
    ) -> None:
        self._writer, self._worker, self._publisher = writer, worker, publisher
        self._ingest, self._alerts, self._metrics = ingest, alerts, metrics
        self._waiting: deque[Result] = deque()
        self._concepts_saved: set[str] = set()

    def take(self) -> None:
        """Stores everything that is ready.

        Raises:
            OSError, sqlalchemy.exc.DBAPIError: the store cannot be written now; nothing is lost, call it again.
        """
        self._waiting.extend(self._worker.results())
        while self._waiting:
            together = self._storable_together()
            if len(together) < 2 or not self._take_all(together):
                self._take(self._waiting[0])
                self._waiting.popleft()

    def _storable_together(self) -> list[Done]:
        """The reports in front, of one run each: what is weighed for alerts must not wait for itself to be stored."""
        found: dict[str, Done] = {}
        for result in self._waiting:
            if not isinstance(result, Done) or result.report.run in found or len(found) == _MOST_TOGETHER:
                break
            found[result.report.run] = result
        return list(found.values())

    def _take_all(self, together: list[Done]) -> bool:
        """Stores several reports with one commit; False where that fails, and each is to be taken by itself."""
        try:
            stored = self._store([done.report for done in together])
        except Exception as error:
            if why_unwritable(error):
                raise
            logger.warning("%d reports could not be stored together: each is tried by itself", len(together))
            return False
        for tell in stored:
            self._waiting.popleft()
            try:
                tell()
            except Exception:
                logger.exception("a result that is stored could not be told")
        return True

    def _take(self, result: Result) -> None:
        try:
            self._apply(result)
        except Exception as error:
            if why_unwritable(error):
                raise
            logger.exception("a result of run %s could not be stored", getattr(result, "run", ""))
            if isinstance(result, Done):  # it would fail again for ever, and all others behind it wait
                report, reason = result.report, f"it could not be stored: {type(error).__name__}: {error}"
                self._on_failed(Failed(report.run, report.capture, report.step, reason, report.epoch))

    def _apply(self, result: Result) -> None:
        if isinstance(result, Activity):
            self._writer.save_run(result.run, activity=result.text)
            self._publisher.publish("run", result.run)
        elif isinstance(result, Ready):
            self._on_ready_probe(result)
        elif isinstance(result, Done):
            self._store([result.report])[0]()
        else:
            self._on_failed(result)

    def _on_ready_probe(self, ready: Ready) -> None:
        vocabulary = ready.vocabulary
        concepts = vocabulary.concepts
        if concepts.fingerprint not in self._concepts_saved:
            categories = [c or "" for c in concepts.categories]
            self._writer.save_concept_set(concepts.fingerprint, concepts.name, list(concepts.words), categories)
            self._writer.save_map(vocabulary.map_fingerprint, vocabulary.layout, vocabulary.text.numpy())
            self._concepts_saved.add(concepts.fingerprint)
        self._writer.save_run(
            ready.run,
            encoder=ready.encoder,
            concept_fingerprint=concepts.fingerprint,
            map_fingerprint=vocabulary.map_fingerprint,
            activity="",
        )
        self._publisher.publish("run", ready.run)

    def _store(self, reports: list[SnapshotReport]) -> list[Callable[[], None]]:
        """Stores reports in one transaction; returns what is to be done for each now, in order."""
        writer, began = self._writer, time.time()
        fresh = [report for report in reports if not writer.has_capture(report.run, report.epoch, report.capture)]
        news: dict[str, News] = {}
        try:
            if fresh:
                with writer.together():
                    writer.commit_snapshots(fresh)
                    for report in fresh:
                        self._save_progress(report)
                        news[report.run] = self._alerts.weigh(report)
        except BaseException:
            for report in fresh:
                self._alerts.forget(report.run)
            raise
        ended = time.time()
        return [partial(self._tell, report, news.get(report.run), began, ended) for report in reports]

    def _save_progress(self, report: SnapshotReport) -> None:
        deepest = list(report.layers.values())[-1].summary
        running = {"state": "running"} if report.run in self._ingest.sessions else {}
        self._writer.save_run(report.run, activity="", temperature=deepest.temperature, **running)

    def _tell(self, report: SnapshotReport, news: News | None, began: float, ended: float) -> None:
        """A report is in the store; without news it was there already."""
        if news is None:
            self._ingest.committed(report.run, report.epoch, report.capture, "duplicate")
            return
        self._metrics.committed(report, began, ended)
        reach("snapshot-committed")
        self._ingest.committed(report.run, report.epoch, report.capture, "committed")
        reach("snapshot-acked")
        self._publisher.publish("snapshot", report.run, report.step)
        self._alerts.tell(news)

    def _on_failed(self, failed: Failed) -> None:
        if failed.capture < 0:
            self._writer.save_run(failed.run, activity=f"analysis failed: {failed.reason}"[:500])
            self._publisher.publish("run", failed.run)
            return
        if not self._writer.has_capture(failed.run, failed.epoch, failed.capture):
            self._writer.add_gap(failed.run, failed.step, failed.reason[:_REASON], failed.epoch, failed.capture)
            self._metrics.captures.labels("failed").inc()
        self._ingest.committed(failed.run, failed.epoch, failed.capture, failed.reason[:_REASON])
        self._publisher.publish("gap", failed.run, failed.step)
