"""What every part of the ingest needs: the store, the worker, and a way to answer a session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cm_client.protocol.messages import AlertNotice, CaptureAck, Refuse
from cm_client.protocol.needs import Needs, parse_needs
from cm_server.detectors import AnyDetector, DetectorError
from cm_server.events import EventPublisher
from cm_server.metrics import Metrics
from cm_server.report import Alert
from cm_server.sessions import Session
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker

logger = logging.getLogger(__name__)

Send = Callable[[bytes, Any, str, str], None]


@dataclass(frozen=True)
class Counter:
    """Where messages are handled.

    Attributes:
        writer, reader: the store.
        worker: analyses.
        publisher: tells dashboards when to look.
        detector: its needs are passed to clients.
        send: sends a message to an identity; never blocks.
        metrics: what is counted.
    """

    writer: StoreWriter
    reader: StoreReader
    worker: AnalysisWorker
    publisher: EventPublisher
    detector: AnyDetector
    send: Send
    metrics: Metrics = field(default_factory=Metrics)

    @cached_property
    def needs(self) -> Needs:
        """What captures must carry.

        Raises:
            DetectorError: the detector asks for what no client knows.
        """
        found = parse_needs(self.detector.needs)
        if found is None:
            raise DetectorError(
                f"detector {self.detector.name} needs {self.detector.needs!r}: pooled or maps:HxW, with ,labels behind"
            )
        return found

    def reply(self, session: Session, message: Any) -> None:
        """Answers a session's client."""
        self.send(session.identity, message, session.run, session.epoch)

    def save(self, run: str, **values: object) -> None:
        """Changes columns of a run, and says so."""
        self.writer.save_run(run, **values)
        self.publisher.publish("run", run)

    def refuse(self, session: Session, reason: str) -> None:
        """The run is over for its client: it asked for something that cannot be."""
        logger.warning("run %s refused: %s", session.run, reason)
        self.save(session.run, state="failed", activity=reason)
        self.reply(session, Refuse(reason))

    def lose(self, session: Session, capture: int, step: int, reason: str) -> None:
        """A capture will never be a snapshot: a gap in the store, and the client may forget it."""
        logger.warning("run %s: capture at step %d is lost: %s", session.run, step, reason)
        self.writer.add_gap(session.run, max(step, 0), reason, session.epoch, capture)
        self.metrics.captures.labels("refused").inc()
        self.reply(session, CaptureAck(capture, reason[:200]))
        self.publisher.publish("gap", session.run, step)

    def tell_again(self, session: Session) -> None:
        """What fires since this process began, for it may have missed the news: a connection broke, a server died."""
        mine = next((one for one in self.reader.epochs(session.run) if one.epoch == session.epoch), None)
        if mine is None or mine.first_step is None:
            return
        for alert in reversed(self.reader.alerts(session.run)):
            if alert.state == "firing" and alert.step >= mine.first_step:
                self.reply(session, notice_of(alert))


def notice_of(alert: Alert) -> AlertNotice:
    """An alert as its run's client hears of it."""
    return AlertNotice(alert.id, alert.rule, alert.layer, alert.severity, alert.state, alert.step, alert.message)
