"""What each message of a client does: sessions here; probe sets, captures and figures in their own modules.

The socket is not here: `Ingest.receive` takes frames and calls ``send(identity, message, run, epoch)``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

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
    ScalarBatch,
    Unknown,
    Welcome,
)
from cm_server import version
from cm_server.capture_intake import CaptureIntake
from cm_server.counter import Counter, Send
from cm_server.detectors import Detector
from cm_server.events import EventPublisher
from cm_server.figure_intake import FigureIntake, flat
from cm_server.probe_intake import ProbeIntake
from cm_server.sessions import CREDIT, MOST_SESSIONS, SILENT_SECONDS, Session
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.worker import AnalysisWorker, ForgetJob

logger = logging.getLogger(__name__)

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
        self._counter = Counter(writer, reader, worker, publisher, detector, send)
        self._on_finish = on_finish
        self._probes = ProbeIntake(self._counter)
        captures, figures = CaptureIntake(self._counter), FigureIntake(self._counter)
        self._handlers: dict[type, Callable[[Session, Any], None]] = {
            ProbeStart: self._probes.start,
            ProbeChunk: self._probes.chunk,
            CaptureStart: captures.start,
            CaptureChunk: captures.chunk,
            ScalarBatch: figures.scalars,
            Dropped: figures.dropped,
            Heartbeat: figures.heartbeat,
            Finish: self._finish,
        }
        self.sessions: dict[str, Session] = {}
        self.malformed = 0

    def receive(self, identity: bytes, frames: Sequence[Any]) -> None:
        """Takes one message; whatever is in it, the server goes on."""
        try:
            envelope = decode(frames)
            if not _is_run_id(envelope.run):
                raise ProtocolError(f"run id {envelope.run[:64]!r}: give 1 to 64 letters, digits, dots, - or _")
        except ProtocolError as error:
            self.malformed += 1
            logger.warning("malformed message: %s", error)
            self._counter.send(identity, Refuse(str(error)), "", "")
            return
        if isinstance(envelope.message, Hello):
            self._hello(identity, envelope, envelope.message)
            return
        session = self.sessions.get(envelope.run)
        if session is None or session.epoch != envelope.epoch:
            self._counter.send(identity, Unknown(), envelope.run, envelope.epoch)
            return
        if session.lost:  # silent for a while (a debugger, a suspended laptop), and back
            self._counter.save(session.run, state="running" if session.layers else "waiting")
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self.malformed += 1
            return
        handler(session, envelope.message)

    def check_silence(self) -> None:
        """Marks runs whose client has been silent for `SILENT_SECONDS` as lost."""
        for session in self.sessions.values():
            silent = time.monotonic() - session.last_seen > SILENT_SECONDS
            if silent and not session.lost and session.finish is None:
                session.lost = True
                self._counter.save(session.run, state="lost")

    def committed(self, run: str, capture: int, outcome: str) -> None:
        """A capture is in the store, or never will be: the client may forget it."""
        session = self.sessions.get(run)
        if session is not None:
            session.pending.discard(capture)
            self._counter.reply(session, CaptureAck(capture, outcome))
            if session.finish is not None and not session.pending:
                self._end(session, session.finish)

    def reply(self, run: str, message: Any) -> None:
        """Sends something to a run's client, if it is connected."""
        session = self.sessions.get(run)
        if session is not None:
            self._counter.reply(session, message)

    def _hello(self, identity: bytes, envelope: Envelope, hello: Hello) -> None:
        run, counter = envelope.run, self._counter
        self._close_silent()
        if run not in self.sessions and len(self.sessions) >= MOST_SESSIONS:
            reason = f"the server holds {MOST_SESSIONS} runs already: start another server, or wait"
            counter.send(identity, Refuse(reason), run, envelope.epoch)
            return
        session = self.sessions.get(run)
        if session and session.epoch != envelope.epoch and not self._may_take_over(session, identity, envelope):
            return
        known = counter.reader.run(run)
        if session is None or session.epoch != envelope.epoch:
            session = self.sessions[run] = Session(run, envelope.epoch, identity)
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        if known is not None and known.probe_fingerprint and not session.probe_fingerprint:
            self._probes.restore(session, known.probe_fingerprint)
        counter.save(
            run,
            name=hello.name[:200] or run,
            model=hello.model[:200],
            planned_steps=hello.planned_steps if hello.planned_steps >= 0 else None,
            config=flat(hello.config),
            detector=counter.detector.name,
            state="running" if known and counter.reader.snapshots(run) else "waiting",
        )
        needs, fewest = counter.detector.needs, counter.detector.min_probes
        counter.reply(session, Welcome(version.VERSION, CREDIT, session.probe_fingerprint, needs, fewest))

    def _may_take_over(self, session: Session, identity: bytes, envelope: Envelope) -> bool:
        """A crashed process's successor waits a few seconds; a second live process is refused."""
        yields = session.yields_to(envelope.epoch, time.monotonic())
        if yields is False:
            reason = f"run {envelope.run!r} is being written by another live process: give this one its own run id"
            self._counter.send(identity, Refuse(reason), envelope.run, envelope.epoch)
        return bool(yields)

    def _close_silent(self) -> None:
        if len(self.sessions) >= MOST_SESSIONS:
            self.sessions = {run: session for run, session in self.sessions.items() if not session.lost}

    def _finish(self, session: Session, finish: Finish) -> None:
        """The run ends once its last captures are analysed."""
        session.finish = finish
        self._counter.reply(session, Pong())
        if not session.pending:
            self._end(session, finish)

    def _end(self, session: Session, finish: Finish) -> None:
        state = finish.status if finish.status in ("finished", "failed") else "finished"
        self._counter.save(session.run, state=state, stats=flat(finish.stats), activity="")
        self._on_finish(session.run, session.step)
        self._counter.worker.submit(ForgetJob(session.run))
        self.sessions.pop(session.run, None)


def _is_run_id(run: str) -> bool:
    return 1 <= len(run) <= 64 and set(run) <= _RUN_CHARACTERS and not run.startswith(".")
