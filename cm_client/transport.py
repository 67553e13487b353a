"""The one module that touches a socket: a daemon thread between the training, the server and the spool.

The training thread only appends to a deque; it never waits, encodes, sends or touches a disk.

Memory: what is handed over and not yet taken (`mailbox.MAX_BYTES`), captures (`outbox.MAX_BYTES`) and scalars
(`rows.MAX_ROW_BYTES`) are bounded in bytes, and the probe set's pictures are held once. With a spool captures and
pictures are in memory only until they are written, which is at once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import zmq

from cm_client.handshake import UNKNOWN_KEY, Handshakes
from cm_client.items import CaptureItem, ProbeImages
from cm_client.keys import Keys, protect
from cm_client.link import Link
from cm_client.mailbox import Mailbox
from cm_client.outbox import NO_ROOM, Outbox
from cm_client.protocol import ProtocolError, VersionError, decode, encode
from cm_client.protocol.messages import AlertNotice, Answer, Finish, Hello, ProbeStart, Refuse, Request
from cm_client.rows import row_cost
from cm_client.spool import Leftover, Spool, SpoolError

LOG = logging.getLogger("cm_client")
NO_SERVER_AFTER = 5.0
GRACE = 0.5
"""Seconds after the start in which a server's first answer is awaited even where the run is over already."""
LAST_WORD = 0.3
"""Seconds before the deadline from which on only the last word is said."""
FLUSH_MS = 1000
LOOK_EVERY = 0.25
"""Seconds between looks into the mailbox; what lies there for less dies with a killed process. Each look costs about
0.3 ms of a processor: at 20 a second they took more of the default budget than the captures."""
BURST = 32

MakeSpool = Callable[[str, Hello], Spool]


class Transport:
    """Sends one run to one server, and hears what it says.

    Args:
        server: ZeroMQ address; None for a run that only goes to the spool.
        run: id of the run.
        hello: the opening message.
        stats: figures for heartbeats; called in this class's thread.
        refused: told once, in this class's thread, when the server will not have the run or nothing can be sent.
        make_spool: makes the spool of an epoch, in this class's thread; None for memory only.
        welcomed: called once, in this class's thread, when the server first answers.
        epoch: of a dead process whose spool is taken up; by default a new one.
        keys: for a server that wants to know who speaks.
    """

    def __init__(
        self,
        server: str | None,
        run: str,
        hello: Hello,
        stats: Callable[[], dict[str, Any]],
        refused: Callable[[str], None],
        make_spool: MakeSpool | None = None,
        welcomed: Callable[[], None] = lambda: None,
        epoch: str = "",
        keys: Keys | None = None,
    ) -> None:
        self.server, self.run, self.epoch = server, run, epoch or uuid.uuid4().hex
        self.outbox = Outbox()
        self.link = Link(hello, self.outbox, stats)
        self.spool: Spool | None = None
        self.bytes_sent = self.rows_turned_away = 0
        self.cpu_seconds = 0.0
        """Of this class's thread so far: while it encodes it holds the interpreter that the training needs."""
        self.trouble = ""
        """Why the server does not let us in, as far as that can be told."""
        self._hello, self._refused, self._make_spool, self._welcomed = hello, refused, make_spool, welcomed
        self._keys = keys
        self._mailbox = Mailbox()
        self._done = threading.Event()
        self._finish: Finish | None = None
        self._deadline = math.inf
        self._sequence = 0
        self._frames: list[Any] | None = None
        self._started = time.monotonic()
        self._warned = self._rejected = self._resumed = False
        self._first_step: int | None = None
        self._thread = threading.Thread(target=self._work, name="cm_client", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def alerts(self) -> list[AlertNotice]:
        """Alerts heard of so far, oldest first."""
        return list(self.link.alerts)

    @property
    def requests(self) -> deque[Request]:
        """What the server asks and nobody has looked at yet; the training's thread takes them out."""
        return self.link.requests

    def answer(self, answer: Answer) -> None:
        """Hand over what became of a request."""
        self._mailbox.post(0, self.link.answer, answer)

    def set_probes(self, probes: ProbeImages) -> None:
        """Hand over the run's probe set."""
        self._mailbox.post(0, self._keep_probes, probes)

    def add_capture(self, item: CaptureItem) -> None:
        """Hand over a capture; its arrays belong to the transport from now on."""
        if not self._mailbox.post(item.nbytes, self._keep_capture, item):
            self._mailbox.post(0, self.outbox.lost, item.number, item.step, NO_ROOM)

    def add_scalars(self, step: int, at: float, values: dict[str, Any]) -> None:
        """Hand over a row of scalars; tensors among them are read in this class's thread."""
        if not self._mailbox.post(row_cost(values), self._plain_scalars, step, at, values):
            self.rows_turned_away += 1

    def take_up(self, spool: Spool, left: Leftover) -> None:
        """Send what a dead process left; called before `start`, with the spool's own epoch."""
        self.spool = spool
        self.outbox.attach(spool)
        self.outbox.restore(left.captures, left.rows, left.dropped)
        for number, step in left.damaged:
            self.outbox.lost(number, step, "the training process died while it was written")
        self._announce_probes(spool)

    def close(self, message: Finish, timeout: float, wait: bool = True, patient: bool = False) -> None:
        """Send what is left, then ``message``, then end; wait for it at most ``timeout`` seconds.

        Args:
            message: the last word.
            timeout: seconds.
            wait: whether to wait at all.
            patient: wait for a server even where there never was one; by default nothing is waited for then.
        """
        self._deadline = time.monotonic() + timeout
        self._mailbox.post(0, self._set_finish, message, patient)
        self._mailbox.ring()
        if wait:
            self.wait(self._deadline)

    def wait(self, until: float) -> bool:
        """Wait for the end until a time of the monotonic clock; returns whether it came."""
        return self._done.wait(max(0.0, min(until - time.monotonic(), threading.TIMEOUT_MAX)))

    def abandon(self) -> None:
        """End now, whatever is left; asked after `close`."""
        self._deadline = -math.inf
        self._mailbox.ring()

    def _set_finish(self, message: Finish, patient: bool) -> None:
        if not (self.link.ever_open or patient):
            self._deadline = min(self._deadline, self._started + GRACE)
        self._finish = message
        self.link.finish(message)
        if self.spool is not None:
            self.spool.keep_finish(message)

    def _keep_capture(self, item: CaptureItem) -> None:
        self._note_step(item.step)
        self.outbox.add_capture(item)

    def _keep_probes(self, probes: ProbeImages) -> None:
        if self.spool is not None and self.spool.keep_probes(probes.messages(), probes.images.nbytes):
            self._announce_probes(self.spool)
        else:
            self.link.set_probes(probes.fingerprint, probes.messages)

    def _announce_probes(self, spool: Spool) -> None:
        start = next(spool.probes() or iter(()), None)
        if isinstance(start, ProbeStart):
            self.link.set_probes(start.fingerprint, spool.probes)

    def _plain_scalars(self, step: int, at: float, values: dict[str, Any]) -> None:
        self._note_step(step)
        plain = {name: float(value) for name, value in values.items()}
        self.outbox.rows.add(step, at, {n: v if math.isfinite(v) else None for n, v in plain.items()})

    def _note_step(self, step: int) -> None:
        if self._first_step is None:
            self._first_step = step

    def _work(self) -> None:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        handshakes = Handshakes(dealer, self._keys is not None)
        try:
            if self.server is not None:
                self._connect(dealer, self.server)
            self._open_spool()  # while the connection is made; not a word is said before the epoch is on the disk
            self._started = time.monotonic()
            self._loop(dealer, handshakes)
        except Exception as error:
            LOG.debug("cm_client transport", exc_info=True)
            self._refused(f"{self.server!r}: {type(error).__name__}: {error}")
        finally:
            with suppress(Exception):  # whatever is wrong with the last calls, the socket must go
                self._close_spool()
            handshakes.close()
            # A moment for the last word; on every other way out nothing may be waited for.
            dealer.close(linger=FLUSH_MS if self.link.finished else 0)
            # On a thread of its own: it may wait long for a name server that does not answer.
            end = threading.Thread(target=context.term, name="cm_client end", daemon=True)
            end.start()
            if self.link.finished:
                end.join(max(0.0, min(FLUSH_MS / 1000, self._deadline - time.monotonic())))
            self._done.set()
            self._mailbox.close()

    def _open_spool(self) -> None:
        if self._make_spool is None:
            return
        try:
            self.spool = self._make_spool(self.epoch, self._hello)
        except SpoolError as error:
            LOG.warning("%s", error)
            return
        self.outbox.attach(self.spool)

    def _close_spool(self) -> None:
        self._take_calls()
        self._say_what_is_left()
        if self.spool is not None:
            nothing = self.outbox.empty and (self.link.ended or not self.link.ever_open)
            self.spool.close(done=nothing)

    def _connect(self, dealer: zmq.Socket, server: str) -> None:
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.SNDHWM, 16),
            (zmq.MAXMSGSIZE, 64 * 1024),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 2000),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 10_000),
        ):
            dealer.setsockopt(option, value)
        protect(dealer, self._keys)
        try:
            dealer.connect(server)
        except zmq.ZMQError as error:
            raise ValueError(f"not an address ({error}); give server= or CM_SERVER like tcp://127.0.0.1:7801") from None

    def _loop(self, dealer: zmq.Socket, handshakes: Handshakes) -> None:
        poller = zmq.Poller()
        poller.register(self._mailbox.fileno(), zmq.POLLIN)
        while not (self.link.finished or self.link.refused):
            self._take_calls()
            self.cpu_seconds = time.thread_time()
            now = time.monotonic()
            if self._over(now):
                break
            more = self.server is not None and self._send(dealer, now)
            self.trouble = handshakes.trouble()
            if self.link.open:
                handshakes.forget()
            self._tell(now)
            poller.register(dealer, zmq.POLLIN | (zmq.POLLOUT if self._frames else 0))
            ready = dict(poller.poll(math.ceil(1000 * (0.0 if more else self._pause(now)))))
            if self._mailbox.fileno() in ready:
                self._mailbox.hush()
            if ready.get(dealer, 0) & zmq.POLLIN:
                self._receive(dealer)
        self._tell(math.inf)

    def _over(self, now: float) -> bool:
        """Whether there is nothing to stay for; hurries the link when the deadline comes near."""
        if self._finish is None:
            return False
        if self.server is None or now >= self._deadline:
            return True
        if now >= self._deadline - LAST_WORD and self.link.ever_open:
            self.link.hurry()
        return False

    def _pause(self, now: float) -> float:
        waits = [LOOK_EVERY]
        if not self._frames and self.server is not None:
            waits.append(self.link.wait(now))
        if now < self._deadline:
            waits += [left for left in (self._deadline - now, self._deadline - LAST_WORD - now) if left > 0]
        return min(waits)

    def _take_calls(self) -> None:
        self._mailbox.take()
        self.outbox.rows.flush()

    def _send(self, dealer: zmq.Socket, now: float) -> bool:
        """Send until there is nothing to say or no room; True where there is more to say and room for it."""
        for _ in range(BURST):
            if self._frames is None:
                message = self.link.next(now)
                if message is None:
                    return False
                self._sequence += 1
                self._frames = encode(message, self.run, self.epoch, self._sequence)
            try:
                dealer.send_multipart(self._frames, zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.bytes_sent += sum(map(len, self._frames))
            self._frames = None
        return True

    def _receive(self, dealer: zmq.Socket) -> None:
        for _ in range(BURST):
            try:
                frames = dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                envelope = decode(frames)
            except VersionError as error:
                self.link.refused = str(error)
                return
            except ProtocolError as error:
                LOG.debug("cm_client: a message of the server was not understood: %s", error)
                continue
            # A refusal may come without a run: the server could not read which one it refuses.
            if envelope.run == self.run or isinstance(envelope.message, Refuse):
                was_open, ever_open = self.link.open, self.link.ever_open
                self.link.heard(envelope.message, time.monotonic())
                if self.link.open != was_open:
                    self._frames = None  # It was meant for the session before this one.
                if self.link.ever_open and not ever_open:
                    self._welcomed()

    def _tell(self, now: float) -> None:
        """Warn where there is something to say, each thing once; ``now`` is infinite at the end."""
        link = self.link
        if link.refused:
            self._refused(f"the server at {self.server} refused run {self.run!r}: {link.refused}")
        elif self.server is not None and not self._warned and self._is_kept_out(now):
            self._warned = True
            what = "the server at %s does not let us in" if self.trouble else "no server at %s"
            cure = self.trouble or "start one with `concept-monitor up`, or set CM_SERVER"
            LOG.warning(f"{what}; training goes on; %s", self.server, cure)
        if link.rejections and not self._rejected:
            self._rejected = True
            LOG.warning("the server did not take a capture: %s", link.rejections[0])
        self._tell_of_resume()

    def _is_kept_out(self, now: float) -> bool:
        """Whether no server answers, or one does and our key counts no more."""
        if self.link.ever_open:
            return not self.link.open and self.trouble == UNKNOWN_KEY
        return now > self._started + NO_SERVER_AFTER

    def _tell_of_resume(self) -> None:
        if self._resumed or self._first_step is None or self._hello.start_step >= 0 or self._hello.backfill:
            return
        if self._first_step <= 1 and self._first_step < self.link.known_step:
            self._resumed = True
            LOG.warning(
                "run %r is known up to step %d, and this process counts from step %d: where it goes on from a "
                "checkpoint, pass watch(start_step=…), or its steps take the place of the earlier ones",
                self.run,
                self.link.known_step,
                self._first_step,
            )

    def _say_what_is_left(self) -> None:
        box = self.outbox
        if self._hello.backfill or box.empty:
            return
        what = f"{box.unacked_captures} captures and {box.rows.unacked} scalar rows of run {self.run!r}"
        if self.spool is not None:
            level = logging.INFO if self.server is None or not self.link.ever_open else logging.WARNING
            LOG.log(level, "%s are kept in %s: `concept-monitor sync` sends them", what, self.spool.directory)
        elif self.link.ever_open and not self.link.refused:
            LOG.warning("%s could not be sent and are lost: the server did not take them in time", what)
