"""From the ROUTER socket to the ingest: bounded, counted, and in turns between the runs.

ZeroMQ itself takes turns between connections; the queue here takes turns between *runs*, so that one that opens many
connections, or sends much, waits for itself only. What a client may say how often is bounded by kind; what is beyond it
is passed by as if it had been lost on the way, which clients get over.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import zmq

from cm_client.protocol import Envelope, ProtocolError, limits
from cm_client.protocol.messages import (
    CaptureChunk,
    CaptureStart,
    NotReady,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    Refuse,
    SampleImages,
    SampleKeys,
    ScalarBatch,
    VocabularyRequest,
)
from cm_server.core.allowance import Allowance, Allowances
from cm_server.core.fairness import FairQueue
from cm_server.fault_points import reach
from cm_server.ingest import Ingest
from cm_server.keyring import Keyring
from cm_server.metrics import Metrics
from cm_server.stores.errors import why_unwritable

logger = logging.getLogger(__name__)

MOST_READ = 256
"""Messages that may wait for their turn: with frames of 1 MiB at most so many of these."""
SHARE = 64
"""Messages handled before what has come meanwhile is read: one that floods delays the others by no more."""
SHARES = 8
"""Shares before results and clocks get their turn; and before figures are stored, the more at once the cheaper."""
MOST_CLIENTS = 4096
"""Connections whose allowances are remembered."""
_MESSAGE_COST = 32 * 1024
"""What a message costs beside its bytes: about what the server could copy while it writes a small row."""
_QUANTUM = 64 * 1024
_MOST_WAITING = 16 * 2**20
_UNBOUNDED = (CaptureChunk, ProbeChunk, ProbeLabels, ProbeClasses, SampleKeys, SampleImages, ScalarBatch)
"""Bounded otherwise: by the credit, by what was announced or asked for, by their acks."""
_DRAINED = 100_000
"""Frames beyond the allowed ones that are thrown away in one go."""

Send = Callable[[bytes, Any, str, str], None]
_Waiting = tuple[bytes, Envelope]


class Intake:
    """Reads, checks and hands on what clients send.

    Args:
        socket: the ROUTER.
        ingest: handles it.
        send: answers a client.
        keyring: where clients have keys, for those revoked while they were connected.
        clock: monotonic seconds.
        metrics: what is counted; counts that nobody reads if None.

    Attributes:
        figures: how many messages were read, malformed, too frequent, or of a revoked client.
    """

    def __init__(
        self,
        socket: zmq.Socket,
        ingest: Ingest,
        send: Send,
        keyring: Keyring | None = None,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._reader = Reader(socket)
        self._ingest, self._send, self._keyring, self._clock = ingest, send, keyring, clock
        self._queue: FairQueue[_Waiting] = FairQueue(_QUANTUM, _MOST_WAITING)
        self._words = Allowances(rate=100, burst=1_000, most=MOST_CLIENTS)
        self._starts = Allowances(rate=2_000, burst=8_000, most=MOST_CLIENTS)
        self._vocabularies = Allowances(rate=1, burst=5, most=MOST_CLIENTS)
        self._all_vocabularies = Allowance(rate=2, burst=8)
        self._malformed = Allowances(rate=2, burst=10, most=MOST_CLIENTS)
        self._may_log = Allowance(rate=0.2, burst=10)
        self.figures: Counter[str] = Counter()

    @property
    def waiting(self) -> bool:
        """Whether something has been read and not been handled."""
        return len(self._queue) > 0 or self._reader.busy

    def take(self) -> None:
        """Reads what has come, some of it, and handles it share by share; then what waits for one commit is stored."""
        for _ in range(SHARES):
            self.read()
            self.handle()
            if not self.waiting:
                break
        self._ingest.flush()

    def read(self) -> None:
        """Reads what has come, as far as there is room."""
        for _ in range(MOST_READ):
            if len(self._queue) >= MOST_READ:
                return
            message = self._reader.next()
            if message is None:
                return
            self._sort_in(*message)

    def handle(self) -> None:
        """Handles a share of what was read, in turns between the runs."""
        for waiting in self._queue.drain(SHARE):
            self._handle(waiting)

    def _sort_in(self, identity: zmq.Frame, frames: list[zmq.Frame]) -> None:
        reach("message-received")
        self.figures["read"] += 1
        self._metrics.messages.inc()
        self._metrics.received.inc(sum(map(len, frames)))
        who, now = identity.bytes, self._clock()
        if not self._is_let_in(identity):
            self.figures["revoked"] += 1
            return
        try:
            envelope = self._ingest.read([frame.buffer for frame in frames])
        except ProtocolError as error:
            self._refuse(who, str(error), now)
            return
        if not self._may_say(who, envelope, now):
            self.figures["too frequent"] += 1
            if self._may_log.take(now):
                kind = type(envelope.message).__name__
                logger.warning("run %r says %s too often: some are passed by", envelope.run, kind)
            return
        cost = _MESSAGE_COST + sum(len(frame) for frame in frames)
        for oldest in self._queue.put(envelope.run, (who, envelope), cost):
            self._handle(oldest)

    def _handle(self, waiting: _Waiting) -> None:
        try:
            self._ingest.take(*waiting)
        except Exception as error:  # one client's message must not end the others' runs
            if why_unwritable(error):
                raise
            logger.exception("a message could not be handled and was skipped")

    def _is_let_in(self, identity: zmq.Frame) -> bool:
        """A key taken off the list counts no more, though its connection is still open."""
        if self._keyring is None:
            return True
        try:
            client = self._keyring.clients().get(str(identity.get("User-Id")).encode())
        except zmq.ZMQError:  # no user id: it never passed the doorkeeper
            return False
        return client is not None and client.role == "writer"

    def _refuse(self, who: bytes, reason: str, now: float) -> None:
        self.figures["malformed"] += 1
        self._ingest.count_malformed()
        if self._malformed.take(who, now):
            logger.warning("malformed message: %s", reason)
            self._send(who, Refuse(reason), "", "")

    def _may_say(self, who: bytes, envelope: Envelope, now: float) -> bool:
        message = envelope.message
        if isinstance(message, _UNBOUNDED):
            return True
        if isinstance(message, CaptureStart):
            return self._starts.take(who, now)
        if isinstance(message, VocabularyRequest):
            return self._may_ask_for_words(who, envelope, now)
        return self._words.take(who, now)

    def _may_ask_for_words(self, who: bytes, envelope: Envelope, now: float) -> bool:
        """A few bytes that are answered by megabytes; so others are told to wait, which they know how to."""
        if not self._vocabularies.take(who, now):
            return False
        if self._all_vocabularies.take(now):
            return True
        self._send(who, NotReady("the server is telling others its words"), "", envelope.epoch)
        return False


class Reader:
    """Reads messages off a ROUTER, and of each no more frames than it takes to see that they are too many."""

    def __init__(self, socket: zmq.Socket) -> None:
        self._socket = socket
        self._begun: tuple[zmq.Frame, list[zmq.Frame]] | None = None
        self._more = False

    @property
    def busy(self) -> bool:
        """Whether a message has been read in part."""
        return self._begun is not None

    def next(self) -> tuple[zmq.Frame, list[zmq.Frame]] | None:
        """Who sent the next message, and its frames, at most one more than are allowed; None where none is there.

        A message of very many frames is thrown away a part at a time, so that others are seen to in between.
        """
        if self._begun is None and not self._begin():
            return None
        for _ in range(_DRAINED):
            if not self._more:
                message, self._begun = self._begun, None
                return message
            self._read()
        return None

    def _begin(self) -> bool:
        try:
            identity = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self._begun, self._more = (identity, []), identity.more
        return True

    def _read(self) -> None:
        frame = self._socket.recv(zmq.NOBLOCK, copy=False)  # a message comes whole: its frames are there
        self._more = frame.more
        if self._begun is not None and len(self._begun[1]) <= limits.MAX_FRAMES:
            self._begun[1].append(frame)
