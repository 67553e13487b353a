"""A server process that welcomes, acks and forgets: what the client's own cost is measured against."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from types import TracebackType
from typing import Any

import zmq

from cm_client.protocol import decode, encode
from cm_client.protocol import messages as m


def free_address() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


class Sink:
    """Runs in a process of its own, so that it takes no part of the trainer's interpreter lock."""

    def __init__(self) -> None:
        self.address = free_address()
        spawn = multiprocessing.get_context("spawn")
        ready = spawn.Event()
        self._process = spawn.Process(target=_serve, args=(self.address, ready), daemon=True)
        self._process.start()
        if not ready.wait(60):
            raise RuntimeError("the sink did not start")

    def stop(self) -> None:
        """Freeze it (SIGSTOP): the connection stays open, nobody reads."""
        os.kill(int(self._process.pid or 0), signal.SIGSTOP)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()


def _serve(address: str, ready: Any) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(address)
    ready.set()
    rows: dict[tuple[str, int], int] = {}
    while True:
        identity, *frames = router.recv_multipart()
        envelope = decode(frames)
        answer = _answer(envelope.message, rows, envelope.epoch)
        if answer is not None:
            router.send_multipart([identity, *encode(answer, envelope.run, envelope.epoch, 0)])


def _answer(message: Any, rows: dict[tuple[str, int], int], epoch: str) -> Any:
    if isinstance(message, m.Hello):
        return m.Welcome("bench", 2**26, "", "pooled", 2, samples="probe stream")
    if isinstance(message, m.ScalarBatch):
        return m.ScalarAck(message.rows[-1][0])
    if isinstance(message, m.CaptureStart):
        rows[epoch, message.capture] = message.probes * len(message.layers)
    elif isinstance(message, m.CaptureChunk):
        rows[epoch, message.capture] -= len(message.values)
        if rows[epoch, message.capture] <= 0:
            return m.CaptureAck(message.capture, "committed")
    elif isinstance(message, m.Heartbeat | m.Finish):
        return m.Pong()
    return None
