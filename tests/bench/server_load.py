"""Simulated clients against a real server process: what it acknowledges, how soon, and whether anything is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

from cm_client.protocol import decode, encode
from cm_client.protocol import messages as m
from cm_server.events import EventSubscriber, read_discovery

SIDE = 32
FINGERPRINT = "ab" * 32
CHUNK = 64 * 1024


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[psutil.Process]:
    """A server of its own process, with the encoder that needs no weights; yields it once it serves."""
    places = ["--store", str(folder / "store"), "--cache", str(folder / "cache"), "--log-level", "error"]
    ports = ["--listen", "tcp://127.0.0.1:0", "--events", "tcp://127.0.0.1:0"]
    command = [sys.executable, "-m", "cm_server.cli", "server", *places, *ports, "--encoder", "planted"]
    started = subprocess.Popen([*command, "--projection", "pca", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        if "training processes" not in started.stdout.readline():
            raise RuntimeError("the server did not start")
        yield psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(120)


@dataclass
class Client:
    """One training process, as the server sees it.

    Attributes:
        captures: by number, when it was handed over.
        rows: figures handed over; `acked` of them acknowledged.
        late: seconds from handing over to the acknowledgement, by capture.
    """

    run: str
    socket: zmq.Socket
    probes: int
    units: int
    welcome: bool = False
    ready: bool = False
    captures: dict[int, float] = field(default_factory=dict)
    number: int = 0
    rows: int = 0
    acked: int = 0
    late: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    beat: float = 0.0

    def say(self, message: Any) -> None:
        """Sends; waits where the pipe is full."""
        self.socket.send_multipart(encode(message, self.run, "e", 0))

    def hello(self) -> None:
        """Opens the session."""
        self.say(m.Hello(self.run, "Net", -1, time.time(), "1", "host", 1))

    def capture(self, values: np.ndarray) -> None:
        """Hands a capture over: its start, and chunks of at most 64 KiB."""
        number, rows = self.number, max(1, CHUNK // (self.units * 4))
        self.number += 1
        self.captures[number] = time.time()
        layers = [["layer4", self.units]]
        self.say(m.CaptureStart(number, number * 10, self.captures[number], FINGERPRINT, self.probes, layers))
        for start in range(0, self.probes, rows):
            self.say(m.CaptureChunk(number, 0, start, values[start : start + rows]))

    def log(self, rows: int, names: list[str]) -> None:
        """Hands a message of figures over."""
        first, self.rows = self.rows, self.rows + rows
        named = dict.fromkeys(names, 0.5 + first)
        self.say(m.ScalarBatch([[n, n, time.time(), named] for n in range(first, first + rows)]))

    def hear(self) -> None:
        """Takes everything that has come."""
        while self.socket.poll(0):
            self._take(decode(self.socket.recv_multipart()).message)
        if time.monotonic() - self.beat > 2:
            self.beat = time.monotonic()
            self.say(m.Heartbeat({"step": self.number}))

    def _take(self, message: Any) -> None:
        if isinstance(message, m.Welcome) and not self.welcome:
            self.welcome = True
            self._send_probes()
        elif isinstance(message, m.ProbeAck):
            self.ready = True
        elif isinstance(message, m.CaptureAck):
            self.late.append(time.time() - self.captures.pop(message.capture))
            if message.outcome != "committed":
                self.lost.append(message.outcome)
        elif isinstance(message, m.ScalarAck):
            self.acked = max(self.acked, message.number + 1)
        elif isinstance(message, m.Refuse):
            raise RuntimeError(message.reason)

    def _send_probes(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (self.probes, SIDE, SIDE, 3), dtype=np.uint8)
        self.say(m.ProbeStart(FINGERPRINT, self.probes, SIDE, SIDE, "drawn"))
        for start in range(0, self.probes, 256):
            self.say(m.ProbeChunk(FINGERPRINT, start, images[start : start + 256]))


class Crowd:
    """Clients of one server, on one thread of this process."""

    def __init__(self, store: Path, count: int, probes: int, units: int) -> None:
        found = read_discovery(store)
        assert found is not None
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self.events = EventSubscriber(str(found["events"]), self._context)
        self.clients = [self._client(str(found["ingest"]), f"load{n:03d}", probes, units) for n in range(count)]
        self.values = np.random.default_rng(1).random((probes, units), dtype=np.float32)

    def _client(self, address: str, run: str, probes: int, units: int) -> Client:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        self._poller.register(socket, zmq.POLLIN)
        return Client(run, socket, probes, units)

    def begin(self, seconds: float = 600.0) -> None:
        """Returns when every client's probe set is stored and one capture of each is through: all is warm."""
        for client in self.clients:
            client.hello()
        self.until(lambda: all(client.ready for client in self.clients), seconds)
        for client in self.clients:
            client.capture(self.values)
        self.until(lambda: all(client.late for client in self.clients), seconds)
        for client in self.clients:
            client.late.clear()

    def turn(self, milliseconds: int = 20) -> None:
        """Waits a moment and takes what has come."""
        for socket, _ in self._poller.poll(milliseconds):
            next(client for client in self.clients if client.socket is socket).hear()

    def until(self, condition: Any, seconds: float) -> None:
        """Takes what comes until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError("the server did not answer in time")
            self.turn()
            for client in self.clients:
                client.hear()

    def close(self) -> None:
        """Closes every connection."""
        self.events.close()
        self._context.destroy(linger=0)


def busy(process: psutil.Process) -> float:
    """Seconds of CPU time that a process has had."""
    times = process.cpu_times()
    return times.user + times.system


def figures(
    store: Path, process: psutil.Process, count: int, seconds: float, rows: int, names: list[str], window: int = 16
) -> dict[str, Any]:
    """Messages of figures, as many as are acknowledged; each client has at most ``window`` of them on their way."""
    crowd = Crowd(store, count, 64, 64)
    crowd.begin()  # the words are laid out by then, which takes the interpreter for seconds
    size = len(
        b"".join(encode(m.ScalarBatch([[9999, 9999, time.time(), dict.fromkeys(names, 0.5)]] * rows), "r", "e", 0))
    )
    started, used = time.monotonic(), busy(process)
    while time.monotonic() - started < seconds:
        for client in crowd.clients:
            while client.rows - client.acked < window * rows:
                client.log(rows, names)
        crowd.turn()
    acked, passed = sum(client.acked for client in crowd.clients), time.monotonic() - started
    each = (busy(process) - used) * rows / max(1, acked)
    crowd.until(lambda: all(client.acked == client.rows for client in crowd.clients), 120)
    sent = {client.run: client.rows for client in crowd.clients}
    crowd.close()
    return {
        "messages": acked / rows / passed,
        "values": acked * len(names) / passed,
        "bytes": size,
        "sent": sent,
        "cpu": each,
    }


def captures(
    store: Path, process: psutil.Process, count: int, seconds: float, probes: int, units: int, ahead: int = 1
) -> dict[str, Any]:
    """Captures, each client with ``ahead`` of them on their way; latencies and what became of them."""
    crowd = Crowd(store, count, probes, units)
    crowd.begin()
    chunks = -(-probes // max(1, CHUNK // (units * 4)))
    heard: list[float] = []
    started, used = time.monotonic(), busy(process)
    while time.monotonic() - started < seconds:
        for client in crowd.clients:
            while len(client.captures) < ahead:
                client.capture(crowd.values)
        crowd.turn(5)
        heard += [event.time for event in crowd.events.poll(0) if event.kind == "snapshot"]
    done = sum(len(client.late) for client in crowd.clients)
    passed, each = time.monotonic() - started, (busy(process) - used) / max(1, done)
    crowd.until(lambda: not any(client.captures for client in crowd.clients), 300)
    lost = [reason for client in crowd.clients for reason in client.lost]
    late = np.array([seconds for client in crowd.clients for seconds in client.late])
    numbers = {client.run: client.number for client in crowd.clients}
    crowd.close()
    return {
        "captures": done / passed, "messages": done * chunks / passed, "chunks": chunks, "lost": lost, "late": late,
        "numbers": numbers, "cpu": each,
    }  # fmt: skip


def soak(store: Path, process: psutil.Process, count: int, total: int, show: Any) -> list[tuple[int, int]]:
    """Many small captures; ``(captures, bytes of resident memory)`` along the way."""
    crowd = Crowd(store, count, 64, 64)
    crowd.begin()
    memory, done, told = [(0, process.memory_info().rss)], 0, 0
    while done < total:
        for client in crowd.clients:
            if not client.captures:
                client.capture(crowd.values)
        crowd.turn(5)
        done = sum(len(client.late) for client in crowd.clients)
        if done - told >= total // 50:
            told = done
            memory.append((done, process.memory_info().rss))
            show(*memory[-1])
    crowd.until(lambda: not any(client.captures for client in crowd.clients), 300)
    crowd.close()
    return memory


def machine() -> str:
    """What this was measured on."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in told if "model name" in line), "unknown processor")
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"
