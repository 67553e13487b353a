"""What each message of a client does: sessions, probe sets, captures, scalars. A thin shell around `assembly`.

The socket is not here: `Ingest.receive` takes frames and calls ``send(identity, message, run, epoch)``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cm_client.protocol import Envelope, ProtocolError, decode
from cm_client.protocol.messages import (
    CaptureAck,
    CaptureChunk,
    CaptureStart,
    Dropped,
    Finish,
    Heartbeat,
    Hello,
    Pong,
    ProbeChunk,
    ProbeStart,
    Refuse,
    ScalarAck,
    ScalarBatch,
    Unknown,
    VocabularyRequest,
    Welcome,
)
from cm_server import version
from cm_server.core.assembly import AssemblyError, ProbeAssembly
from cm_server.detectors import Detector
from cm_server.enquiries import vocabulary_answer
from cm_server.events import EventPublisher
from cm_server.sessions import CREDIT, MOST_SESSIONS, SILENT_SECONDS, Session
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, CaptureJob, ForgetJob, ProbeJob

logger = logging.getLogger(__name__)

Send = Callable[[bytes, Any, str, str], None]
_RUN_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Ingest:
    """Takes clients' messages.

    Args:
        writer, reader: the store.
        worker: analyses.
        publisher: tells dashboards when to look.
        detector: its needs are passed to clients.
        send: sends a message to an identity; never blocks.
        on_finish: called with (run, step) when a run is over.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        worker: AnalysisWorker,
        publisher: EventPublisher,
        detector: Detector,
        send: Send,
        on_finish: Callable[[str, int], None],
    ) -> None:
        self._writer, self._reader = writer, reader
        self._worker, self._publisher = worker, publisher
        self._detector, self._send, self._on_finish = detector, send, on_finish
        self.sessions: dict[str, Session] = {}
        self.malformed = 0

    def receive(self, identity: bytes, frames: Sequence[Any]) -> None:
        """Takes one message; whatever is in it, the server goes on."""
        try:
            envelope = decode(frames)
            if isinstance(envelope.message, VocabularyRequest):
                self._answer(identity, envelope)
                return
            if not _is_run_id(envelope.run):
                raise ProtocolError(f"run id {envelope.run[:64]!r}: give 1 to 64 letters, digits, dots, - or _")
        except ProtocolError as error:
            self.malformed += 1
            logger.warning("malformed message: %s", error)
            self._send(identity, Refuse(str(error)), "", "")
            return
        if isinstance(envelope.message, Hello):
            self._hello(identity, envelope, envelope.message)
            return
        session = self.sessions.get(envelope.run)
        if session is None or session.epoch != envelope.epoch:
            self._send(identity, Unknown(), envelope.run, envelope.epoch)
            return
        if session.lost:  # silent for a while (a debugger, a suspended laptop), and back
            self._save(session.run, state="running" if session.layers else "waiting")
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        self._handle(session, envelope.message)

    def _answer(self, identity: bytes, envelope: Envelope) -> None:
        known, worker = envelope.message.known, self._worker
        for message in vocabulary_answer(worker.vocabulary, worker.encoder, known):
            self._send(identity, message, "", envelope.epoch)

    def check_silence(self) -> None:
        """Marks runs whose client has been silent for `SILENT_SECONDS` as lost."""
        for session in self.sessions.values():
            silent = time.monotonic() - session.last_seen > SILENT_SECONDS
            if silent and not session.lost and session.finish is None:
                session.lost = True
                self._save(session.run, state="lost")

    def committed(self, run: str, capture: int, outcome: str) -> None:
        """A capture is in the store, or never will be: the client may forget it."""
        session = self.sessions.get(run)
        if session is not None:
            session.pending.discard(capture)
            self._reply(session, CaptureAck(capture, outcome))
            if session.finish is not None and not session.pending:
                self._end(session, session.finish)

    def reply(self, run: str, message: Any) -> None:
        """Sends something to a run's client, if it is connected."""
        session = self.sessions.get(run)
        if session is not None:
            self._reply(session, message)

    def _reply(self, session: Session, message: Any) -> None:
        self._send(session.identity, message, session.run, session.epoch)

    def _handle(self, session: Session, message: Any) -> None:
        handlers: dict[type, Callable[[Session, Any], None]] = {
            ProbeStart: self._probe_start,
            ProbeChunk: self._probe_chunk,
            CaptureStart: self._capture_start,
            CaptureChunk: self._capture_chunk,
            ScalarBatch: self._scalars,
            Dropped: self._dropped,
            Heartbeat: self._heartbeat,
            Finish: self._finish,
        }
        handler = handlers.get(type(message))
        if handler is None:
            self.malformed += 1
            return
        handler(session, message)

    def _hello(self, identity: bytes, envelope: Envelope, hello: Hello) -> None:
        run = envelope.run
        self._close_silent()
        if run not in self.sessions and len(self.sessions) >= MOST_SESSIONS:
            reason = f"the server holds {MOST_SESSIONS} runs already: start another server, or wait"
            self._send(identity, Refuse(reason), run, envelope.epoch)
            return
        session = self.sessions.get(run)
        if session and session.epoch != envelope.epoch and not self._may_take_over(session, identity, envelope):
            return
        known = self._reader.run(run)
        if session is None or session.epoch != envelope.epoch:
            session = self.sessions[run] = Session(run, envelope.epoch, identity)
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        if known is not None and known.probe_fingerprint and not session.probe_fingerprint:
            self._restore_probe(session, known.probe_fingerprint)
        self._save(
            run,
            name=hello.name[:200] or run,
            model=hello.model[:200],
            planned_steps=hello.planned_steps if hello.planned_steps >= 0 else None,
            config=_flat(hello.config),
            detector=self._detector.name,
            state="running" if known and self._reader.snapshots(run) else "waiting",
        )
        self._reply(
            session,
            Welcome(
                version.VERSION, CREDIT, session.probe_fingerprint, self._detector.needs, self._detector.min_probes
            ),
        )

    def _may_take_over(self, session: Session, identity: bytes, envelope: Envelope) -> bool:
        """A crashed process's successor waits a few seconds; a second live process is refused."""
        yields = session.yields_to(envelope.epoch, time.monotonic())
        if yields is False:
            reason = f"run {envelope.run!r} is being written by another live process: give this one its own run id"
            self._send(identity, Refuse(reason), envelope.run, envelope.epoch)
        return bool(yields)

    def _close_silent(self) -> None:
        if len(self.sessions) >= MOST_SESSIONS:
            self.sessions = {run: session for run, session in self.sessions.items() if not session.lost}

    def _restore_probe(self, session: Session, fingerprint: str) -> None:
        images = self._reader.probe_images(fingerprint)
        if images is not None:
            self._accept_probe(session, fingerprint, images)

    def _accept_probe(self, session: Session, fingerprint: str, images: np.ndarray) -> None:
        session.probe_fingerprint, session.probe_count = fingerprint, len(images)
        self._save(session.run, activity="waiting for the analysis to begin")
        self._worker.submit(ProbeJob(session.run, fingerprint, images))

    def _probe_start(self, session: Session, start: ProbeStart) -> None:
        if start.count < self._detector.min_probes:
            self._refuse(
                session,
                f"the probe set has {start.count} images, detector {self._detector.name} needs "
                f"{self._detector.min_probes} or more: pass watch(probe_size=…) or a larger ProbeSet",
            )
            return
        if start.fingerprint == session.probe_fingerprint:
            return
        with self._refusing(session):
            session.probe = ProbeAssembly(start)

    def _probe_chunk(self, session: Session, chunk: ProbeChunk) -> None:
        if session.probe is None:
            return
        with self._refusing(session):
            images = session.probe.put(chunk)
            if images is None:
                return
            source, session.probe = session.probe.start.source, None
            self._writer.save_probe_images(chunk.fingerprint, images)
            self._save(
                session.run,
                probes=len(images),
                probe_fingerprint=chunk.fingerprint,
                probe_source=source,
            )
            self._accept_probe(session, chunk.fingerprint, images)

    def _capture_start(self, session: Session, start: CaptureStart) -> None:
        if start.capture in session.pending:
            return
        if self._writer.has_capture(session.run, session.epoch, start.capture):
            self._reply(session, CaptureAck(start.capture, "duplicate"))
            return
        try:
            session.begin_capture(start)
        except AssemblyError as error:
            self._lose(session, start.capture, start.step, str(error))

    def _capture_chunk(self, session: Session, chunk: CaptureChunk) -> None:
        assembly = session.captures.get(chunk.capture)
        if assembly is None:
            return
        try:
            capture = assembly.put(chunk)
        except AssemblyError as error:
            del session.captures[chunk.capture]
            self._lose(session, chunk.capture, assembly.start.step, str(error))
            return
        if capture is None:
            return
        del session.captures[chunk.capture]
        session.pending.add(chunk.capture)
        layers = [(name, values.shape[1]) for name, values in capture.activations.items()]
        if layers != session.layers:
            self._writer.save_layers(session.run, layers)
            session.layers = layers
        self._worker.submit(CaptureJob(session.run, session.epoch, capture, time.time()))

    def _scalars(self, session: Session, batch: ScalarBatch) -> None:
        rows = list(_scalar_rows(batch.rows))
        self._writer.add_scalars(session.run, session.epoch, rows)
        if rows:
            session.step = max(session.step, rows[-1][1])
            self._reply(session, ScalarAck(max(row[0] for row in rows)))
            self._publisher.publish("scalars", session.run, session.step)

    def _dropped(self, session: Session, message: Dropped) -> None:
        for row in message.rows:
            if len(row) == 2 and type(row[0]) is int and isinstance(row[1], str):
                self._writer.add_gap(session.run, row[0], row[1][:200])
        self._publisher.publish("gap", session.run)

    def _heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        self._writer.save_run(session.run, stats=_flat(heartbeat.stats))
        self._reply(session, Pong())

    def _finish(self, session: Session, finish: Finish) -> None:
        """The run ends once its last captures are analysed."""
        session.finish = finish
        self._reply(session, Pong())
        if not session.pending:
            self._end(session, finish)

    def _end(self, session: Session, finish: Finish) -> None:
        state = finish.status if finish.status in ("finished", "failed") else "finished"
        self._save(session.run, state=state, stats=_flat(finish.stats), activity="")
        self._on_finish(session.run, session.step)
        self._worker.submit(ForgetJob(session.run))
        self.sessions.pop(session.run, None)

    def _lose(self, session: Session, capture: int, step: int, reason: str) -> None:
        logger.warning("run %s: capture at step %d is lost: %s", session.run, step, reason)
        self._writer.add_gap(session.run, max(step, 0), reason)
        self._reply(session, CaptureAck(capture, reason[:200]))
        self._publisher.publish("gap", session.run, step)

    def _refuse(self, session: Session, reason: str) -> None:
        logger.warning("run %s refused: %s", session.run, reason)
        self._save(session.run, state="failed", activity=reason)
        self._reply(session, Refuse(reason))

    def _refusing(self, session: Session) -> _Refusing:
        return _Refusing(lambda reason: self._refuse(session, reason))

    def _save(self, run: str, **values: object) -> None:
        self._writer.save_run(run, **values)
        self._publisher.publish("run", run)


class _Refusing:
    """Turns an `AssemblyError` of the block into a refusal in words."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        self._refuse = refuse

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, AssemblyError):
            self._refuse(str(error))
            return True
        return False


def _is_run_id(run: str) -> bool:
    return 1 <= len(run) <= 64 and set(run) <= _RUN_CHARACTERS and not run.startswith(".")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """A client's map as stored: plain values under short keys; NaN and infinity are not JSON."""
    found: dict[str, Any] = {}
    for key, value in list(values.items())[:200]:
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        with suppress(TypeError):
            found[str(key)[:100]] = value[:1000] if isinstance(value, str) else value
    return found


def _scalar_rows(rows: list[list[Any]]) -> Iterator[tuple[int, int, float, dict[str, float | None]]]:
    """Well-formed rows; others are skipped."""
    for row in rows:
        if len(row) != 4 or type(row[0]) is not int or type(row[1]) is not int or not isinstance(row[3], dict):
            continue
        values = {
            str(name)[:100]: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
            for name, value in row[3].items()
        }
        yield row[0], row[1], float(row[2]) if isinstance(row[2], (int, float)) else 0.0, values
