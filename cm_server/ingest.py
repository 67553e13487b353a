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
    Answer,
    CaptureAck,
    CaptureChunk,
    CaptureStart,
    Dropped,
    Finish,
    FinishAck,
    Heartbeat,
    Hello,
    Pong,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
    Refuse,
    Request,
    SampleImages,
    SampleKeys,
    ScalarBatch,
    Unknown,
    VocabularyRequest,
    Welcome,
)
from cm_server import version
from cm_server.capture_intake import CaptureIntake
from cm_server.counter import Counter, Send
from cm_server.detectors import AnyDetector, LabelledDetector
from cm_server.enquiries import vocabulary_answer
from cm_server.events import EventPublisher
from cm_server.fault_points import reach
from cm_server.figure_intake import FigureIntake, flat
from cm_server.metrics import Metrics
from cm_server.probe_intake import ProbeIntake
from cm_server.requests import RequestDesk
from cm_server.sessions import CREDIT, KINDS, MOST_SESSIONS, SILENT_SECONDS, Session
from cm_server.stores.lineage import Epoch
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.stream_intake import StreamIntake
from cm_server.worker import AnalysisWorker, ForgetJob

logger = logging.getLogger(__name__)

ENDS = ("finished", "failed", "lost")
MOST_EPOCH = 64
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
        metrics: what is counted; counts that nobody reads if None.

    Raises:
        DetectorError: the detector needs what no client sends.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        worker: AnalysisWorker,
        publisher: EventPublisher,
        detector: AnyDetector,
        send: Send,
        on_finish: Callable[[str, int], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._counter = Counter(writer, reader, worker, publisher, detector, send, metrics or Metrics())
        _ = self._counter.needs  # a detector that asks for what no client sends shows at the start
        self._on_finish = on_finish
        self._probes = ProbeIntake(self._counter)
        self._requests = RequestDesk(self._counter, lambda: self.sessions)
        stream, self._figures = StreamIntake(self._counter), FigureIntake(self._counter)
        captures = CaptureIntake(self._counter, stream)
        self._handlers: dict[type, Callable[[Session, Any], None]] = {
            ProbeStart: self._probes.start,
            ProbeChunk: self._probes.chunk,
            ProbeLabels: self._probes.chunk,
            ProbeClasses: self._probes.chunk,
            CaptureStart: captures.start,
            CaptureChunk: captures.chunk,
            SampleKeys: stream.keys,
            SampleImages: stream.images,
            ScalarBatch: self._figures.scalars,
            Dropped: self._figures.dropped,
            Heartbeat: self._figures.heartbeat,
            Answer: self._requests.answered,
            Finish: self._finish,
        }
        self.sessions: dict[str, Session] = {}
        self._late: dict[tuple[str, str], Session] = {}
        self.malformed = 0

    def receive(self, identity: bytes, frames: Sequence[Any]) -> None:
        """Takes one message; whatever is in it, the server goes on."""
        try:
            envelope = self.read(frames)
        except ProtocolError as error:
            self.count_malformed()
            logger.warning("malformed message: %s", error)
            self._counter.send(identity, Refuse(str(error)), "", "")
            return
        self.take(identity, envelope)

    def read(self, frames: Sequence[Any]) -> Envelope:
        """What some frames say.

        Raises:
            ProtocolError: they are no message, or name no run where they should.
        """
        envelope = decode(frames)
        if len(envelope.epoch) > MOST_EPOCH:
            raise ProtocolError(f"epoch {envelope.epoch[:64]!r}: give at most {MOST_EPOCH} characters")
        if not (isinstance(envelope.message, VocabularyRequest) or _is_run_id(envelope.run)):
            raise ProtocolError(f"run id {envelope.run[:64]!r}: give 1 to 64 letters, digits, dots, - or _")
        return envelope

    def take(self, identity: bytes, envelope: Envelope) -> None:
        """Does what a message says."""
        if isinstance(envelope.message, VocabularyRequest):
            self._answer(identity, envelope)
            return
        if isinstance(envelope.message, Hello):
            self._hello(identity, envelope, envelope.message)
            return
        if isinstance(envelope.message, Request):
            self._requests.ask(identity, envelope, envelope.message)
            return
        session = self._session(envelope.run, envelope.epoch)
        if session is None or session.broken:
            self._counter.send(identity, self._to_a_stranger(envelope), envelope.run, envelope.epoch)
            return
        if session.lost:  # silent for a while (a debugger, a suspended laptop), and back
            self._counter.save(session.run, state="running" if session.layers else "waiting")
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self.count_malformed()
            return
        try:
            handler(session, envelope.message)
        except Exception:
            session.breaks()
            raise

    @property
    def pending(self) -> int:
        """Captures that are with the analysis."""
        return sum(len(session.pending) for session in (*self.sessions.values(), *self._late.values()))

    def count_malformed(self) -> None:
        """A message was refused because it breaks the protocol."""
        self.malformed += 1
        self._counter.metrics.malformed.inc()

    def _answer(self, identity: bytes, envelope: Envelope) -> None:
        worker, send = self._counter.worker, self._counter.send
        for message in vocabulary_answer(worker.vocabulary, worker.encoder, envelope.message.known):
            send(identity, message, "", envelope.epoch)

    def flush(self) -> None:
        """Stores and acknowledges what waits to be stored together: call it after a burst of messages."""
        self._figures.flush()

    def check_silence(self) -> None:
        """Marks runs whose client has been silent for `SILENT_SECONDS` as lost."""
        now = time.monotonic()
        for session in self.sessions.values():
            if now - session.last_seen > SILENT_SECONDS and not session.lost and session.finish is None:
                self._counter.save(session.run, state="lost")
                session.lost = True
        gone = [key for key, late in self._late.items() if now - late.last_seen > SILENT_SECONDS and not late.pending]
        for key in gone:
            self._forget(self._late.pop(key))

    def committed(self, run: str, epoch: str, capture: int, outcome: str) -> None:
        """A capture is in the store, or never will be: the client may forget it."""
        session = self._session(run, epoch)
        if session is not None:
            session.pending.discard(capture)
            session.sizes.pop(capture, None)
            self._counter.reply(session, CaptureAck(capture, outcome))
            if session.finish is not None and not session.pending:
                self._end(session, session.finish)

    def reply(self, run: str, message: Any) -> None:
        """Sends something to a run's client, if it is connected."""
        session = self.sessions.get(run)
        if session is not None:
            self._counter.reply(session, message)

    def release(self, run: str) -> str:
        """Lets go of a run that is to be deleted.

        Returns:
            Why that cannot be, in words; empty where nothing of the run is held any more.
        """
        self.flush()
        mine = [s for s in (self.sessions.get(run), *self._late.values()) if s is not None and s.run == run]
        if any(session.pending or not session.lost for session in mine):
            return f"run {run!r} is being written: end its training first (concept-monitor request {run} stop)"
        for session in mine:
            self.sessions.pop(run, None)
            self._late.pop((run, session.epoch), None)
            self._forget(session)
        return ""

    def _session(self, run: str, epoch: str) -> Session | None:
        live = self.sessions.get(run)
        return live if live is not None and live.epoch == epoch else self._late.get((run, epoch))

    def _to_a_stranger(self, envelope: Envelope) -> Any:
        """The answer where there is no session; an end that was committed already is acked again."""
        over = isinstance(envelope.message, Finish) and any(
            known.epoch == envelope.epoch and known.ended for known in self._counter.reader.epochs(envelope.run)
        )
        return FinishAck() if over else Unknown()

    def _hello(self, identity: bytes, envelope: Envelope, hello: Hello) -> None:
        run, epoch, counter = envelope.run, envelope.epoch, self._counter
        self._close_silent()
        session = self._session(run, epoch)
        if session is None and len(self.sessions) + len(self._late) >= MOST_SESSIONS:
            reason = f"the server holds {MOST_SESSIONS} runs already: start another server, or wait"
            counter.send(identity, Refuse(reason), run, epoch)
            return
        rival = self.sessions.get(run)
        if session is None and rival and not hello.backfill and not self._may_take_over(rival, identity, envelope):
            return
        known, others = counter.reader.run(run), [e for e in counter.reader.epochs(run) if e.epoch != epoch]
        session = self._opened(session or Session(run, epoch, identity), hello, others)
        session.identity, session.last_seen, session.lost = identity, time.monotonic(), False
        session.broken = False
        if session.leads:
            self._save_run(session, hello, new=known is None)
        counter.writer.begin_epoch(run, epoch, hello.started, _given(hello.start_step), late=session.late)
        if known is not None and known.probe_fingerprint and not session.probe_fingerprint:
            self._probes.restore(session, known.probe_fingerprint)
        counter.reply(session, self._welcome(session, others))
        if not session.late:
            counter.tell_again(session)

    def _opened(self, session: Session, hello: Hello, others: Sequence[Epoch]) -> Session:
        """The session in its place: the run's one live process, or one of the dead whose spools are sent."""
        run, epoch = session.run, session.epoch
        if not hello.backfill:
            self.sessions[run] = session
            return session
        if self.sessions.get(run) is session:
            del self.sessions[run]
        self._late[run, epoch] = session
        session.late = True
        session.leads = run not in self.sessions and all(other.begun < hello.started for other in others)
        return session

    def _save_run(self, session: Session, hello: Hello, new: bool) -> None:
        counter, run = self._counter, session.run
        values: dict[str, object] = {
            "name": hello.name[:200] or run,
            "model": hello.model[:200],
            "planned_steps": _given(hello.planned_steps),
            "config": flat(hello.config),
            "detector": counter.detector.name,
            "sample": hello.sample if hello.sample in KINDS else KINDS[0],
        }
        if new and session.late and hello.started > 0:
            values["created"] = min(hello.started, time.time())
        if not session.late or new:
            values["state"] = "running" if counter.reader.snapshots(run) else "waiting"
        counter.save(run, **values)

    def _welcome(self, session: Session, others: Sequence[Epoch]) -> Welcome:
        detector = self._counter.detector
        last = max((other.last_step for other in others if other.last_step is not None), default=-1)
        given = (version.VERSION, CREDIT, session.probe_fingerprint, detector.needs, detector.min_probes)
        fixed = isinstance(detector, LabelledDetector) or detector.needs != "pooled"
        samples = " ".join(KINDS[:1] if fixed else KINDS)
        return Welcome(*given, acks=True, known_step=last, samples=samples)

    def _may_take_over(self, session: Session, identity: bytes, envelope: Envelope) -> bool:
        """A crashed process's successor waits a few seconds; a second live process is refused."""
        yields = session.yields_to(envelope.epoch, time.monotonic())
        if yields is False:
            reason = f"run {envelope.run!r} is being written by another live process: give this one its own run id"
            self._counter.send(identity, Refuse(reason), envelope.run, envelope.epoch)
        return bool(yields)

    def _close_silent(self) -> None:
        if len(self.sessions) >= MOST_SESSIONS:
            gone = [session for session in self.sessions.values() if session.lost]
            self.sessions = {run: session for run, session in self.sessions.items() if not session.lost}
            for session in gone:
                self._forget(session)

    def _finish(self, session: Session, finish: Finish) -> None:
        """The run ends once its last captures are analysed, and after all that it logged."""
        self.flush()
        session.finish = finish
        self._counter.reply(session, Pong())
        if not session.pending:
            self._end(session, finish)

    def _end(self, session: Session, finish: Finish) -> None:
        run, counter = session.run, self._counter
        state = finish.status if finish.status in ENDS else "finished"
        if session.leads:
            stats = {"stats": flat(finish.stats)} if finish.stats else {}
            counter.save(run, state=state, activity="", **stats)
            self._on_finish(run, session.step)
        counter.writer.end_epoch(run, session.epoch, state)
        reach("end-committed")
        counter.reply(session, FinishAck())
        if self._late.pop((run, session.epoch), None) is None:
            self.sessions.pop(run, None)
        self._forget(session)

    def _forget(self, session: Session) -> None:
        """Let the analysis go of what it holds for a session, unless another one of the run needs it."""
        others = [
            self.sessions.get(session.run),
            *(late for (run, _), late in self._late.items() if run == session.run),
        ]
        if not any(other.probe_fingerprint == session.probe_fingerprint for other in others if other is not None):
            self._counter.worker.submit(ForgetJob(session.run, session.probe_fingerprint))


def _given(number: int) -> int | None:
    return number if number >= 0 else None


def _is_run_id(run: str) -> bool:
    return 1 <= len(run) <= 64 and set(run) <= _RUN_CHARACTERS and not run.startswith(".")
