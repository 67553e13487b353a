"""The server process: sockets, store, worker and alerts put together. One loop owns sockets and store."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from cm_client.protocol import encode
from cm_server.alert_desk import AlertDesk
from cm_server.anchor_desk import AnchorDesk
from cm_server.attempts import Attempts
from cm_server.cache import ArrayCache
from cm_server.core.retention import Retention
from cm_server.counter import notice_of
from cm_server.delivery_desk import DeliveryDesk
from cm_server.events import EventPublisher, write_discovery
from cm_server.gate import Gate
from cm_server.guards import Guards
from cm_server.ingest import Ingest
from cm_server.intake import Intake
from cm_server.keeping_desk import KeepingDesk
from cm_server.listening import ServiceError, bind, check, open_router, reachable, taken
from cm_server.memory import MemoryCeiling
from cm_server.metrics import AlertCount, Metrics
from cm_server.notifiers import LogNotifier, TerminalNotifier
from cm_server.notifiers.settings import NotifySettings
from cm_server.questions import QuestionDesk
from cm_server.report import Alert
from cm_server.result_desk import ResultDesk
from cm_server.rules import RuleBook
from cm_server.status_server import StatusError, StatusServer
from cm_server.store_trouble import StoreTrouble
from cm_server.stores.archive import use
from cm_server.stores.archiving import Archiver
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.vitals import SERVING, STOPPING, Vitals
from cm_server.worker import AnalysisWorker, WorkerSettings

logger = logging.getLogger(__name__)

_POLL_MS = 250
_IDLE_STOP_SECONDS = 5.0
"""A stop waits no longer than this for an analysis thread that holds nothing of a client's."""


@dataclass(frozen=True)
class ServiceSettings:
    """Where the server listens and keeps things.

    Attributes:
        listen: address for training processes; port 0 takes a free one.
        events: address for dashboards.
        store: folder of the store.
        cache: folder of embeddings and maps.
        worker: how to analyse.
        rules: when to raise an alert.
        notify: how alerts are delivered.
        http: HOST:PORT of health checks and metrics; empty for none.
        stop_seconds: how long a stop may take to analyse and commit what clients have handed over.
        retention: which snapshots keep their arrays.
        guards: who may connect, how many, and how much memory that may take.
        archive: the object store that closed array files move to; empty for none.
    """

    listen: str
    events: str
    store: Path
    cache: Path
    worker: WorkerSettings
    rules: RuleBook = field(default_factory=RuleBook)
    notify: NotifySettings = field(default_factory=NotifySettings)
    http: str = ""
    stop_seconds: float = 10.0
    retention: Retention = field(default_factory=Retention)
    guards: Guards = field(default_factory=Guards)
    archive: str = ""


class Service:
    """Opens everything; `run` serves until `stop`.

    Attributes:
        outgrown: `run` ended because the process had grown above its ceiling: it is to be started again.

    Raises:
        ServiceError: an address is in use, or not loopback and there are no keys.
        KeyringError: the keys are not usable.
        StatusError: nothing can listen at the address of health checks and metrics.
        StoreError: the store cannot be written.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        for flag, address in (("--listen", settings.listen), ("--events", settings.events)):
            check(flag, address, keyed=settings.guards.keys is not None)
        self._gate = Gate(settings.guards)
        self._context = self._gate.context
        self._ceiling = MemoryCeiling(settings.guards.memory)
        self.outgrown = False
        self._socket = open_router(self._context)
        self._gate.guard_ingest(self._socket)
        self._metrics, self._vitals = Metrics(), Vitals(settings.store)
        try:
            self._writer = StoreWriter(settings.store)
            archive = use(settings.store, settings.archive) if settings.archive else None
            self.listen = bind(self._socket, "--listen", settings.listen)
            with taken("--events", settings.events):
                self._publisher = EventPublisher(self._context, settings.events, self._gate.guard_events)
            self._status = _status(settings, self._vitals, self._metrics)
        except (ServiceError, StoreError, StatusError):
            self._gate.close()
            self._context.destroy(linger=0)
            raise
        self._reader = StoreReader(settings.store)
        self._waker, self._wakeable = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeable.setblocking(False)
        cache, attempts = ArrayCache(settings.cache), Attempts(settings.store)
        self._worker = AnalysisWorker(settings.worker, cache, self._wake, attempts)
        self._keeping = KeepingDesk(
            self._writer,
            self._reader,
            self._release,
            settings.retention,
            lambda run: self._publisher.publish("run", run),
        )
        self._archiver: Archiver | None = None
        if archive is not None:
            self._archiver = Archiver(settings.store, archive, self._writer.writing, lambda: self._keeping.busy)
        self._anchors = AnchorDesk(self._writer, self._reader, settings.worker.anchors, self._on_anchors)
        self._questions = QuestionDesk(settings.store, settings.worker.encoder, lambda: self._worker.vocabulary, cache)
        self._delivery = DeliveryDesk(
            self._writer,
            self._reader,
            settings.notify,
            self._wake,
            lambda run: self._publisher.publish("alert", run),
            self._keeping.carry_out,
            self._anchors.carry_out,
            on_outcome=self._metrics.delivery,
        )
        shown = [TerminalNotifier()] if settings.notify.terminal else []
        notifiers = [LogNotifier(), *shown]
        self._count = count = AlertCount(self._metrics, self._delivery.open_alerts(), self._delivery.notifier)
        self._desk = AlertDesk(self._writer, self._reader, notifiers, self._on_alert, settings.rules, count)
        self._ingest = Ingest(
            self._writer,
            self._reader,
            self._worker,
            self._publisher,
            settings.worker.detector,
            self._send,
            self._desk.end,
            self._metrics,
        )
        self._intake = Intake(self._socket, self._ingest, self._send, self._gate.keyring, metrics=self._metrics)
        self._results = ResultDesk(self._writer, self._worker, self._publisher, self._ingest, self._desk, self._metrics)
        self._trouble = StoreTrouble(settings.store, self._writer.try_out)
        self._store, self._stop_seconds = settings.store, settings.stop_seconds
        self._sequence = 0
        self._stops = 0
        self._metrics.watch_server(settings.store, lambda: len(self._ingest.sessions), lambda: self._worker.waiting)
        self._metrics.watch_gate(lambda: self._gate.figures)

    @property
    def trouble(self) -> str:
        """Why the store cannot be written; empty while it can."""
        return self._trouble.reason

    @property
    def events(self) -> str:
        """Address of the event socket, with the port that was really taken."""
        return self._publisher.endpoint

    def run(self, on_ready: Callable[[], None] = lambda: None) -> bool:
        """Serves until `stop` is called (from a signal handler or another thread).

        Returns:
            Whether the analysis thread ended too; if not, it is deep in native code and only a hard exit is clean.
        """
        self._guarded(self._mark_abandoned)
        self._worker.start()
        self._questions.start()
        if self._archiver is not None:
            self._archiver.start()
        write_discovery(self._store, reachable(self.listen), reachable(self.events))
        if self._status is not None:
            self._status.start()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeable, zmq.POLLIN)
        self._vitals.phase = SERVING
        self._gate.register(poller)
        on_ready()
        while not (self._stops or self._has_outgrown()):
            if self._trouble.waits:
                time.sleep(_POLL_MS / 1000)  # messages wait in the sockets: a poll would return at once
            else:
                poller.poll(0 if self._intake.waiting else _POLL_MS)
                self._guarded(self._turn)
            self._gate.serve()
            self._publisher.heartbeat()
            self._vitals.beat(self._trouble.reason)
        self._vitals.phase = STOPPING
        return self._close(self._drain(poller))

    def _turn(self) -> None:
        self._drain_wakes()
        self._trouble.try_again()
        self._results.take()
        self._trouble.over()
        self._intake.take()
        self._results.take()
        self._ingest.check_silence()
        self._desk.tick()
        self._delivery.tick()
        if self._keeping.tick():
            self._wake()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Does something of which no failure may end the runs of all."""
        try:
            work()
        except Exception as error:
            self._metrics.unstored.inc()
            if not self._trouble.met(error):
                logger.exception("something went wrong and is passed over")

    def _release(self, run: str) -> str:
        """Lets go of a run that is to be deleted; returns why not."""
        reason = self._ingest.release(run)
        if not reason:
            self._desk.forget(run)
            self._count.forget(run)
        return reason

    def stop(self) -> None:
        """Asks the loop to end once what was handed over is committed; a second time: to end now."""
        self._stops += 1
        self._wake()

    @property
    def http(self) -> str:
        """Where health checks and metrics are answered; empty where they are not."""
        return self._status.address if self._status is not None else ""

    @property
    def left(self) -> int:
        """Captures that were handed over and are not committed: their clients keep them and send them again."""
        return self._ingest.pending

    def _has_outgrown(self) -> bool:
        """Stops the intake at the ceiling: what is committed is safe, and clients send the rest again."""
        if not self._ceiling.exceeded:
            return False
        self.outgrown = True
        logger.error(
            "the process has grown above %d MB and stops, to be started again; nothing acknowledged is lost. "
            "Raise --memory where that much is meant to be used",
            self._ceiling.limit // 2**20,
        )
        self._socket.close(linger=0)  # first of all: what grows may be ZeroMQ's, fed by a peer
        self._publisher.close()
        return True

    def _drain(self, poller: zmq.Poller) -> bool:
        """Commits and acknowledges what is with the analysis, in the time a stop may take; takes nothing new."""
        poller.unregister(self._socket)
        self._questions.stop()
        if self._archiver is not None:
            self._archiver.stop()
        most = min(self._stop_seconds, _IDLE_STOP_SECONDS) if self.outgrown else self._stop_seconds
        asked = time.monotonic()
        while (not (ended := self._worker.stop(timeout=0)) or self.left) and self._stops == 1:
            waited = time.monotonic() - asked
            if waited > most or (waited > _IDLE_STOP_SECONDS and not self.left):
                break
            poller.poll(_POLL_MS)
            self._gate.serve()
            self._drain_wakes()
            if not self._trouble.waits:
                self._guarded(self._results.take)
            self._publisher.heartbeat()
            self._vitals.beat(self._trouble.reason)
        self._guarded(self._results.take)  # what cannot be stored was not acknowledged: it comes again
        return ended

    def _close(self, ended: bool) -> bool:
        self._guarded(self._delivery.close)
        if self._status is not None:
            self._status.close()
        self._writer.close()
        self._reader.close()
        self._publisher.close()
        self._gate.close()
        self._context.destroy(linger=200)
        self._waker.close()
        self._wakeable.close()
        return ended

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._waker.send(b"\0")

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while self._wakeable.recv(4096):
                pass

    def _on_alert(self, alert: Alert) -> None:
        self._publisher.publish("alert", alert.run, alert.step)
        self._ingest.reply(alert.run, notice_of(alert))

    def _on_anchors(self, run: str) -> None:
        self._desk.reconsider(run)
        self._publisher.publish("run", run)

    def _send(self, identity: bytes, message: Any, run: str, epoch: str) -> None:
        self._sequence += 1
        with suppress(zmq.Again, zmq.ZMQError):  # a slow or vanished client: acks are repeated, nothing is lost
            self._socket.send_multipart([identity, *encode(message, run, epoch, self._sequence)], flags=zmq.NOBLOCK)

    def _mark_abandoned(self) -> None:
        """Runs that were open when an earlier server ended are lost until their client says hello again."""
        for run in self._reader.runs():
            if run.state in ("waiting", "running"):
                self._writer.save_run(run.run, state="lost", activity="")


def _status(settings: ServiceSettings, vitals: Vitals, metrics: Metrics) -> StatusServer | None:
    return StatusServer(settings.http, vitals, metrics.registry) if settings.http else None
