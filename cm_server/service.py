"""The server process: sockets, store, worker and alerts put together. One loop owns sockets and store."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from cm_client.protocol import encode, limits
from cm_client.protocol.messages import AlertNotice
from cm_server.alert_desk import AlertDesk
from cm_server.anchor_desk import AnchorDesk
from cm_server.cache import ArrayCache
from cm_server.delivery_desk import DeliveryDesk
from cm_server.events import EventPublisher, write_discovery
from cm_server.ingest import Ingest
from cm_server.notifiers import LogNotifier, TerminalNotifier
from cm_server.notifiers.settings import NotifySettings
from cm_server.questions import QuestionDesk
from cm_server.report import Alert
from cm_server.rules import RuleBook
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import Activity, AnalysisWorker, Done, Failed, Ready, Result, WorkerSettings

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
    """

    listen: str
    events: str
    store: Path
    cache: Path
    worker: WorkerSettings
    rules: RuleBook = field(default_factory=RuleBook)
    notify: NotifySettings = field(default_factory=NotifySettings)


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
        cache = ArrayCache(settings.cache)
        self._worker = AnalysisWorker(settings.worker, cache, self._wake)
        self._anchors = AnchorDesk(self._writer, self._reader, settings.worker.anchors, self._on_anchors)
        self._questions = QuestionDesk(settings.store, settings.worker.encoder, lambda: self._worker.vocabulary, cache)
        self._delivery = DeliveryDesk(
            self._writer,
            self._reader,
            settings.notify,
            self._wake,
            lambda run: self._publisher.publish("alert", run),
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
        self._store = settings.store
        self._sequence = 0
        self._stopping = False
        self._concepts_saved: set[str] = set()

    @property
    def events(self) -> str:
        """Address of the event socket, with the port that was really taken."""
        return self._publisher.endpoint

    def run(self, on_ready: Callable[[], None] = lambda: None) -> bool:
        """Serves until `stop` is called (from a signal handler or another thread).

        Returns:
            Whether the analysis thread ended too; if not, it is deep in native code and only a hard exit is clean.
        """
        self._mark_abandoned()
        self._worker.start()
        self._questions.start()
        write_discovery(self._store, self.listen, self.events)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeable, zmq.POLLIN)
        on_ready()
        while not self._stopping:
            poller.poll(_POLL_MS)
            self._take_messages()
            self._take_results()
            self._ingest.check_silence()
            self._desk.tick()
            self._delivery.tick()
            self._publisher.heartbeat()
        return self._close()

    def stop(self) -> None:
        """Asks the loop to end."""
        self._stopping = True
        self._wake()

    def _close(self) -> bool:
        self._questions.stop()
        ended = self._worker.stop(timeout=5)
        self._take_results()
        self._delivery.close()
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
                return
            try:
                self._ingest.receive(identity.bytes, [frame.buffer for frame in frames])
            except Exception:  # one client's message, or a full disk, must not end the others' runs
                logger.exception("a message could not be handled and was skipped")

    def _take_results(self) -> None:
        with suppress(BlockingIOError):
            while self._wakeable.recv(4096):
                pass
        for result in self._worker.results():
            try:
                self._apply(result)
            except Exception:
                logger.exception("a result could not be stored; its capture is not acknowledged")

    def _apply(self, result: Result) -> None:
        if isinstance(result, Activity):
            self._writer.save_run(result.run, activity=result.text)
            self._publisher.publish("run", result.run)
        elif isinstance(result, Ready):
            self._on_ready_probe(result)
        elif isinstance(result, Done):
            self._on_report(result)
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

    def _on_report(self, done: Done) -> None:
        report = done.report
        self._writer.commit_snapshot(report)
        deepest = list(report.layers.values())[-1].summary
        running = {"state": "running"} if report.run in self._ingest.sessions else {}
        self._writer.save_run(report.run, activity="", temperature=deepest.temperature, **running)
        self._ingest.committed(report.run, report.epoch, report.capture, "committed")
        self._publisher.publish("snapshot", report.run, report.step)
        self._desk.report(report)

    def _on_failed(self, failed: Failed) -> None:
        if failed.capture < 0:
            self._writer.save_run(failed.run, activity=f"analysis failed: {failed.reason}"[:500])
            self._publisher.publish("run", failed.run)
            return
        self._writer.add_gap(failed.run, failed.step, failed.reason[:200], failed.epoch, failed.capture)
        self._ingest.committed(failed.run, failed.epoch, failed.capture, failed.reason[:200])
        self._publisher.publish("gap", failed.run, failed.step)

    def _on_alert(self, alert: Alert) -> None:
        self._publisher.publish("alert", alert.run, alert.step)
        fields = {k: v for k, v in asdict(alert).items() if k in AlertNotice.__annotations__}
        self._ingest.reply(alert.run, AlertNotice(**fields))

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
