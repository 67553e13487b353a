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
from cm_server.notifiers import LogNotifier, TerminalNotifier
from cm_server.notifiers.settings import NotifySettings
from cm_server.questions import QuestionDesk
from cm_server.report import Alert
from cm_server.result_desk import ResultDesk
from cm_server.rules import RuleBook
from cm_server.store_trouble import StoreTrouble
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, WorkerSettings

logger = logging.getLogger(__name__)

_POLL_MS = 250


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
        retention: which snapshots keep their arrays.
        guards: who may connect, how many, and how much memory that may take.
    """

    listen: str
    events: str
    store: Path
    cache: Path
    worker: WorkerSettings
    rules: RuleBook = field(default_factory=RuleBook)
    notify: NotifySettings = field(default_factory=NotifySettings)
    retention: Retention = field(default_factory=Retention)
    guards: Guards = field(default_factory=Guards)


class Service:
    """Opens everything; `run` serves until `stop`.

    Attributes:
        outgrown: `run` ended because the process had grown above its ceiling: it is to be started again.

    Raises:
        ServiceError: an address is in use, or not loopback and there are no keys.
        KeyringError: the keys are not usable.
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
        try:
            self._writer = StoreWriter(settings.store)
            self.listen = bind(self._socket, "--listen", settings.listen)
            with taken("--events", settings.events):
                self._publisher = EventPublisher(self._context, settings.events, self._gate.guard_events)
        except (ServiceError, StoreError):
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
        )
        shown = [TerminalNotifier()] if settings.notify.terminal else []
        notifiers = [LogNotifier(), *shown]
        self._desk = AlertDesk(
            self._writer, self._reader, notifiers, self._on_alert, settings.rules, self._delivery.notifier
        )
        self._ingest = Ingest(
            self._writer,
            self._reader,
            self._worker,
            self._publisher,
            settings.worker.detector,
            self._send,
            self._desk.end,
        )
        self._intake = Intake(self._socket, self._ingest, self._send, self._gate.keyring)
        self._results = ResultDesk(self._writer, self._worker, self._publisher, self._ingest, self._desk)
        self._trouble = StoreTrouble(settings.store, self._writer.try_out)
        self._store = settings.store
        self._sequence = 0
        self._stopping = False

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
        write_discovery(self._store, reachable(self.listen), reachable(self.events))
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeable, zmq.POLLIN)
        self._gate.register(poller)
        on_ready()
        while not (self._stopping or self._has_outgrown()):
            if self._trouble.waits:
                time.sleep(_POLL_MS / 1000)  # messages wait in the sockets: a poll would return at once
            else:
                poller.poll(0 if self._intake.waiting else _POLL_MS)
                self._guarded(self._turn)
            self._gate.serve()
            self._publisher.heartbeat()
        return self._close()

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
            if not self._trouble.met(error):
                logger.exception("something went wrong and is passed over")

    def _release(self, run: str) -> str:
        """Lets go of a run that is to be deleted; returns why not."""
        reason = self._ingest.release(run)
        if not reason:
            self._desk.forget(run)
        return reason

    def stop(self) -> None:
        """Asks the loop to end."""
        self._stopping = True
        self._wake()

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

    def _close(self) -> bool:
        self._questions.stop()
        ended = self._worker.stop(timeout=5)
        self._guarded(self._results.take)  # what cannot be stored was not acknowledged: it comes again
        self._guarded(self._delivery.close)
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
