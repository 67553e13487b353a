"""The one module that touches a socket: a daemon thread between the training and the server.

The training thread only appends to a deque and writes one byte to a socket pair; it never waits, encodes or sends.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import zmq

from cm_client.link import Link
from cm_client.outbox import CaptureItem, Outbox, ProbeImages
from cm_client.protocol import ProtocolError, VersionError, decode, encode
from cm_client.protocol.messages import AlertNotice, Answer, Finish, Hello, Refuse, Request

LOG = logging.getLogger("cm_client")
NO_SERVER_AFTER = 5.0
GRACE = 0.5
"""Seconds after the start in which a server's first answer is awaited even by `close`."""
FLUSH_MS = 1000
BURST = 32


class Transport:
    """Sends one run to one server, and hears what it says.

    Args:
        server: ZeroMQ address.
        run: id of the run.
        hello: the opening message.
        stats: figures for heartbeats; called in this class's thread.
        refused: told once, in this class's thread, when the server will not have the run or nothing can be sent.
    """

    def __init__(
        self,
        server: str,
        run: str,
        hello: Hello,
        stats: Callable[[], dict[str, Any]],
        refused: Callable[[str], None],
    ) -> None:
        self.server, self.run, self.epoch = server, run, uuid.uuid4().hex
        self.outbox = Outbox()
        self.link = Link(hello, self.outbox, stats)
        self.bytes_sent = 0
        self.cpu_seconds = 0.0
        self._refused = refused
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._done = threading.Event()
        self._deadline = math.inf
        self._sequence = 0
        self._frames: list[Any] | None = None
        self._started = time.monotonic()
        self._warned = False
        self._rejected = False
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
        self._post(self.link.answer, answer)

    def set_probes(self, probes: ProbeImages) -> None:
        """Hand over the run's probe set."""
        self._post(self.link.set_probes, probes)

    def add_capture(self, item: CaptureItem) -> None:
        """Hand over a capture; its arrays belong to the transport from now on."""
        self._post(self.outbox.add_capture, item)

    def add_scalars(self, step: int, at: float, values: dict[str, Any]) -> None:
        """Hand over a row of scalars; tensors among them are read in this class's thread."""
        self._post(self._plain_scalars, step, at, values)

    def close(self, message: Finish, timeout: float, wait: bool = True) -> None:
        """Send what is left, then ``message``, then end; wait for it at most ``timeout`` seconds.

        Where there never was a server it waits for nothing.
        """
        now = time.monotonic()
        if not self.link.ever_open:
            timeout = min(timeout, max(0.0, self._started + GRACE - now))
        self._deadline = now + timeout
        self._post(self.link.finish, message)
        if wait:
            self._done.wait(timeout + GRACE)

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        self._events.append((call, args))
        # Full: the thread is about to look anyway. Closed: it has ended, and nothing is to be sent.
        with suppress(OSError):
            self._bell.send(b".")

    def _plain_scalars(self, step: int, at: float, values: dict[str, Any]) -> None:
        plain = {name: float(value) for name, value in values.items()}
        self.outbox.add_scalars(step, at, {n: v if math.isfinite(v) else None for n, v in plain.items()})

    def _work(self) -> None:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        try:
            self._connect(dealer)
            self._loop(dealer)
        except Exception as error:
            LOG.debug("cm_client transport", exc_info=True)
            self._refused(f"{self.server!r}: {type(error).__name__}: {error}")
        finally:
            # A moment for the last word; on every other way out nothing may be waited for.
            dealer.close(linger=FLUSH_MS if self.link.finished else 0)
            context.term()
            self._bell.close()
            self._ear.close()
            self._done.set()

    def _connect(self, dealer: zmq.Socket) -> None:
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
        try:
            dealer.connect(self.server)
        except zmq.ZMQError as error:
            raise ValueError(f"not an address ({error}); give server= or CM_SERVER like tcp://127.0.0.1:7801") from None

    def _loop(self, dealer: zmq.Socket) -> None:
        poller = zmq.Poller()
        poller.register(self._ear.fileno(), zmq.POLLIN)
        while not (self.link.finished or self.link.refused):
            self._take_events()
            self.cpu_seconds = time.thread_time()
            now = time.monotonic()
            if now >= self._deadline:
                self.link.hurry()
                if not self.link.open:
                    break
            if now >= self._deadline + GRACE:
                break
            more = self._send(dealer, now)
            self._tell(now)
            poller.register(dealer, zmq.POLLIN | (zmq.POLLOUT if self._frames else 0))
            wait = 0.0 if more else min(1.0, 1.0 if self._frames else self.link.wait(now), self._left(now))
            ready = dict(poller.poll(math.ceil(wait * 1000)))
            if self._ear.fileno() in ready:
                self._hush()
            if ready.get(dealer, 0) & zmq.POLLIN:
                self._receive(dealer)
        self._tell(math.inf)

    def _left(self, now: float) -> float:
        # Past the deadline the loop lives on for the last word; it must not spin meanwhile.
        return self._deadline - now if now < self._deadline else GRACE / 10

    def _take_events(self) -> None:
        while self._events:
            call, args = self._events.popleft()
            call(*args)

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

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
                was_open = self.link.open
                self.link.heard(envelope.message, time.monotonic())
                if self.link.open != was_open:
                    self._frames = None  # It was meant for the session before this one.

    def _tell(self, now: float) -> None:
        """Warn where there is something to say, each thing once; ``now`` is infinite at the end."""
        link = self.link
        if link.refused:
            self._refused(f"the server at {self.server} refused run {self.run!r}: {link.refused}")
        elif not (link.ever_open or self._warned) and now > self._started + NO_SERVER_AFTER:
            self._warned = True
            LOG.warning(
                "no server at %s; training goes on; start one with `concept-monitor up`, or set CM_SERVER", self.server
            )
        if link.rejections and not self._rejected:
            self._rejected = True
            LOG.warning("the server did not take a capture: %s", link.rejections[0])
