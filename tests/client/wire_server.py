"""A small server that speaks the protocol over a real ROUTER socket, for the client's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from cm_client.protocol import Envelope, decode, encode
from cm_client.protocol import messages as m


class WireServer:
    """Welcomes, collects and acks; ``credit``, ``min_probes`` and what to ack are set by the test.

    ``start`` and ``kill`` may alternate: everything learnt about sessions is forgotten by a kill, the port is kept.
    """

    def __init__(self, credit: int = 2**26, ack_captures: bool = True, ack_scalars: bool = True) -> None:
        self.credit, self.ack_captures, self.ack_scalars = credit, ack_captures, ack_scalars
        self.port = 0
        self.refusal = ""
        self.speaks_1_1 = True
        self.known_step = -1
        self.known_probe = ""
        self.samples = "probe stream"
        self.envelopes: list[Envelope] = []
        self.identity = b""
        self._sessions: set[tuple[str, str]] = set()
        self._outgoing: list[Any] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> WireServer:
        ready = threading.Event()
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(5)
        return self

    def kill(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        self._sessions.clear()

    def say(self, message: Any) -> None:
        self._outgoing.append(message)

    def of(self, kind: type) -> list[Any]:
        return [e.message for e in list(self.envelopes) if isinstance(e.message, kind)]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 10.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.01)
        return bool(condition())

    def captures(self, run: str = "") -> dict[int, tuple[m.CaptureStart, list[np.ndarray]]]:
        """Captures that came whole, of one run where there are several."""
        whole = {}
        messages = [e.message for e in list(self.envelopes) if run in ("", e.run)]
        for start in (message for message in messages if isinstance(message, m.CaptureStart)):
            arrays = [np.full((start.probes, units), np.nan, np.float32) for _, units in start.layers]
            rows = [0] * len(arrays)
            for chunk in (message for message in messages if isinstance(message, m.CaptureChunk)):
                if chunk.capture == start.capture:
                    arrays[chunk.layer][chunk.start : chunk.start + len(chunk.values)] = chunk.values
                    rows[chunk.layer] += len(chunk.values)
            if all(n >= start.probes for n in rows):
                whole[start.capture] = (start, arrays)
        return whole

    def probe_images(self) -> np.ndarray:
        parts = {chunk.start: chunk.images for chunk in self.of(m.ProbeChunk)}
        return np.concatenate([parts[start] for start in sorted(parts)])

    def _work(self, ready: threading.Event) -> None:
        context = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        if self.port:
            router.bind(self.address)
        else:
            self.port = router.bind_to_random_port("tcp://127.0.0.1")
        ready.set()
        while not self._stop.is_set():
            while self._outgoing and self.identity:
                self._reply(router, self.envelopes[-1], self._outgoing.pop(0))
            if router.poll(10):
                self.identity, *frames = router.recv_multipart()
                self._take(router, decode(frames))
        router.close()
        context.term()

    def _take(self, router: zmq.Socket, envelope: Envelope) -> None:
        message, session = envelope.message, (envelope.run, envelope.epoch)
        if isinstance(message, m.Hello):
            self.envelopes.append(envelope)
            self._sessions.add(session)
            given = "test", self.credit, self.known_probe, "pooled", 2
            answer = m.Welcome(*given, acks=self.speaks_1_1, known_step=self.known_step, samples=self.samples)
            self._reply(router, envelope, m.Refuse(self.refusal) if self.refusal else answer)
        elif session not in self._sessions:
            self._reply(router, envelope, m.Unknown())
        else:
            self.envelopes.append(envelope)
            self._answer(router, envelope)

    def _answer(self, router: zmq.Socket, envelope: Envelope) -> None:
        message = envelope.message
        if isinstance(message, m.ScalarBatch) and self.ack_scalars:
            self._reply(router, envelope, m.ScalarAck(message.rows[-1][0]))
        elif isinstance(message, m.Heartbeat):
            self._reply(router, envelope, m.Pong())
        elif (
            isinstance(message, m.CaptureChunk) and self.ack_captures and message.capture in self.captures(envelope.run)
        ):
            self._reply(router, envelope, m.CaptureAck(message.capture, "committed"))
        elif self.speaks_1_1:
            self._answer_1_1(router, envelope)

    def _answer_1_1(self, router: zmq.Socket, envelope: Envelope) -> None:
        message = envelope.message
        if isinstance(message, m.ProbeChunk):
            starts = [start for start in self.of(m.ProbeStart) if start.fingerprint == message.fingerprint]
            if starts and message.start + len(message.images) == starts[-1].count:
                self._reply(router, envelope, m.ProbeAck(message.fingerprint))
        elif isinstance(message, m.Dropped):
            for number in message.captures:
                self._reply(router, envelope, m.CaptureAck(number, "dropped"))
        elif isinstance(message, m.Finish):
            self._reply(router, envelope, m.FinishAck())

    def _reply(self, router: zmq.Socket, envelope: Envelope, message: Any) -> None:
        router.send_multipart([self.identity, *encode(message, envelope.run, envelope.epoch, 0)])
