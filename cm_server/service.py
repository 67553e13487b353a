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
from urllib.parse import urlsplit

import zmq

from cm_client.protocol import encode, limits
from cm_server.alert_desk import AlertDesk
from cm_server.attempts import Attempts
from cm_server.cache import ArrayCache
from cm_server.core.retention import Retention
from cm_server.counter import notice_of
from cm_server.delivery_desk import DeliveryDesk
from cm_server.events import EventPublisher, write_discovery
from cm_server.fault_points import reach
from cm_server.ingest import Ingest
from cm_server.keeping_desk import KeepingDesk
from cm_server.notifiers import LogNotifier, TerminalNotifier
from cm_server.notifiers.settings import NotifySettings
from cm_server.report import Alert
from cm_server.result_desk import ResultDesk
from cm_server.rules import RuleBook
from cm_server.store_trouble import StoreTrouble
from cm_server.stores.errors import why_unwritable
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, WorkerSettings

logger = logging.getLogger(__name__)

_POLL_MS = 250
_BURST = 256
"""Messages taken before results get their turn."""


class ServiceError(RuntimeError):
    """The server cannot start; the message names value and cure."""


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
    """

    listen: str
    events: str
    store: Path
    cache: Path
    worker: WorkerSettings
    rules: RuleBook = field(default_factory=RuleBook)
    notify: NotifySettings = field(default_factory=NotifySettings)
    retention: Retention = field(default_factory=Retention)


class Service:
    """Opens everything; `run` serves until `stop`.

    Raises:
        ServiceError: an address is in use, or not loopback.
        StoreError: the store cannot be written.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        for address in (settings.listen, settings.events):
            _require_loopback(address)
        self._context = zmq.Context()
        self._socket = self._router()
        self._writer = StoreWriter(settings.store)
        try:
            self.listen = _bind(self._socket, "--listen", settings.listen)
            self._publisher = _bound("--events", settings.events, self._context)
        except ServiceError:
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
        self._delivery = DeliveryDesk(
            self._writer,
            self._reader,
            settings.notify,
            self._wake,
            lambda run: self._publisher.publish("alert", run),
            self._keeping.carry_out,
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
        write_discovery(self._store, self.listen, self.events)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeable, zmq.POLLIN)
        on_ready()
        while not self._stopping:
            if self._trouble.waits:
                time.sleep(_POLL_MS / 1000)  # messages wait in the sockets: a poll would return at once
            else:
                poller.poll(_POLL_MS)
                self._guarded(self._turn)
            self._publisher.heartbeat()
        return self._close()

    def _turn(self) -> None:
        self._drain_wakes()
        self._trouble.try_again()
        self._results.take()
        self._trouble.over()
        self._take_messages()
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

    def _close(self) -> bool:
        ended = self._worker.stop(timeout=5)
        self._guarded(self._results.take)  # what cannot be stored was not acknowledged: it comes again
        self._guarded(self._delivery.close)
        self._writer.close()
        self._reader.close()
        self._publisher.close()
        self._context.destroy(linger=200)
        self._waker.close()
        self._wakeable.close()
        return ended

    def _router(self) -> zmq.Socket:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.MAXMSGSIZE, limits.MAX_FRAME)
        router.setsockopt(zmq.RCVHWM, 256)
        router.setsockopt(zmq.SNDHWM, 1000)
        return router

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._waker.send(b"\0")

    def _take_messages(self) -> None:
        for _ in range(_BURST):
            try:
                identity, *frames = self._socket.recv_multipart(flags=zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            reach("message-received")
            try:
                self._ingest.receive(identity.bytes, [frame.buffer for frame in frames])
            except Exception as error:  # one client's message must not end the others' runs
                if why_unwritable(error):
                    raise
                logger.exception("a message could not be handled and was skipped")
        self._ingest.flush()

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while self._wakeable.recv(4096):
                pass

    def _on_alert(self, alert: Alert) -> None:
        self._publisher.publish("alert", alert.run, alert.step)
        self._ingest.reply(alert.run, notice_of(alert))

    def _send(self, identity: bytes, message: Any, run: str, epoch: str) -> None:
        self._sequence += 1
        with suppress(zmq.Again, zmq.ZMQError):  # a slow or vanished client: acks are repeated, nothing is lost
            self._socket.send_multipart([identity, *encode(message, run, epoch, self._sequence)], flags=zmq.NOBLOCK)

    def _mark_abandoned(self) -> None:
        """Runs that were open when an earlier server ended are lost until their client says hello again."""
        for run in self._reader.runs():
            if run.state in ("waiting", "running"):
                self._writer.save_run(run.run, state="lost", activity="")


def _require_loopback(address: str) -> None:
    host = urlsplit(address).hostname or ""
    if not address.startswith("tcp://") or not (host == "localhost" or host.startswith("127.") or host == "::1"):
        raise ServiceError(
            f"address {address!r} is not a loopback address: an open port without keys lets anyone in; "
            "give tcp://127.0.0.1:PORT"
        )


def _bind(router: zmq.Socket, flag: str, address: str) -> str:
    try:
        router.bind(address)
    except zmq.ZMQError as error:
        raise ServiceError(_in_use(flag, address, error)) from None
    return router.getsockopt_string(zmq.LAST_ENDPOINT)


def _bound(flag: str, address: str, context: zmq.Context) -> EventPublisher:
    try:
        return EventPublisher(context, address)
    except zmq.ZMQError as error:
        raise ServiceError(_in_use(flag, address, error)) from None


def _in_use(flag: str, address: str, error: zmq.ZMQError) -> str:
    return (
        f"cannot listen on {address} ({error.strerror}): is another server running? choose another address with {flag}"
    )
