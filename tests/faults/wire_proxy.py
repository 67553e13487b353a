"""A TCP proxy that delays, narrows, cuts and doubles connections; each can be changed while it runs."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_CHUNK = 64 * 1024
_WINDOW = 256 * 1024
"""Bytes that may be under way in one direction; more is not read."""


@dataclass
class Faults:
    """What is done to the bytes.

    Attributes:
        delay: seconds that each byte takes, each way.
        rate: bytes a second, each way; 0 for no limit.
        double: what a client says goes to the server on two connections; the second one's answers are thrown away.
        hold: nothing passes, and nobody is told.
    """

    delay: float = 0.0
    rate: float = 0.0
    double: bool = False
    hold: bool = False


@dataclass
class _Pipe:
    """One direction of one connection."""

    connection: int
    source: socket.socket
    targets: list[socket.socket]
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0
    free_at: float = 0.0


class Proxy:
    """Listens on an address of its own and passes on to another; a thread does it.

    Args:
        target: ``tcp://HOST:PORT``.
        host: address to listen on.
    """

    def __init__(self, target: str, host: str = "127.0.0.1") -> None:
        name, port = target.removeprefix("tcp://").rsplit(":", 1)
        self.target = name, int(port)
        self.faults = Faults()
        self.connections = self.passed = 0
        self._pipes: list[_Pipe] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._server = socket.create_server((host, 0))
        self.address = f"tcp://{host}:{self._server.getsockname()[1]}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Closes every connection, in the middle of whatever is said."""
        done = threading.Event()
        self._calls.append(lambda: (self._drop(list(self._pipes)), done.set()))
        assert done.wait(10)

    def close(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join(10)
        self._drop(list(self._pipes))
        self._server.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            while self._calls:
                self._calls.popleft()()
            reading = [pipe.source for pipe in self._pipes if pipe.size < _WINDOW and not self.faults.hold]
            ready, _, _ = select.select([self._server, *reading], [], [], 0.002)
            if self._server in ready:
                self._accept()
            for pipe in [pipe for pipe in self._pipes if pipe.source in ready]:
                self._read(pipe)
            for pipe in list(self._pipes):
                self._write(pipe)

    def _accept(self) -> None:
        client = self._server.accept()[0]
        try:
            servers = [socket.create_connection(self.target) for _ in range(1 + self.faults.double)]
        except OSError:
            client.close()
            return
        self.connections += 1
        self._pipes.append(_Pipe(self.connections, client, servers))
        for number, server in enumerate(servers):
            self._pipes.append(_Pipe(self.connections, server, [client] if number == 0 else []))

    def _read(self, pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._drop(self._of_same(pipe))
            return
        now = time.monotonic()
        pipe.free_at = max(pipe.free_at, now) + (len(data) / self.faults.rate if self.faults.rate else 0.0)
        pipe.under_way.append((pipe.free_at + self.faults.delay, data))
        pipe.size += len(data)

    def _write(self, pipe: _Pipe) -> None:
        while pipe.under_way and pipe.under_way[0][0] <= time.monotonic() and not self.faults.hold:
            _, data = pipe.under_way.popleft()
            pipe.size -= len(data)
            self.passed += len(data)
            try:
                for target in pipe.targets:
                    target.sendall(data)
            except OSError:
                self._drop(self._of_same(pipe))
                return

    def _of_same(self, pipe: _Pipe) -> list[_Pipe]:
        return [one for one in self._pipes if one.connection == pipe.connection]

    def _drop(self, pipes: list[_Pipe]) -> None:
        for pipe in pipes:
            for end in (pipe.source, *pipe.targets):
                with suppress(OSError):
                    end.close()
        self._pipes = [pipe for pipe in self._pipes if pipe not in pipes]
