"""A whole server on real sockets, in a thread of the test's own process, that names concepts by the planted encoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from cm_client.keys import Keys, protect
from cm_client.protocol import decode, encode
from cm_client.protocol.messages import Hello
from cm_server.concepts import load_concepts
from cm_server.detectors import make_detector
from cm_server.encoders import make_encoder
from cm_server.guards import Guards
from cm_server.service import Service, ServiceSettings
from cm_server.worker import WorkerSettings

HELLO = Hello("a run", "Net", -1, 0.0, "1", "host", 1, {})
LOOPBACK = "tcp://127.0.0.1:0"


def settings(folder: Path, guards: Guards, **changes: Any) -> ServiceSettings:
    """Of a server on loopback with a store of its own."""
    worker = WorkerSettings(make_encoder("planted"), make_detector("cos_cubed"), load_concepts(), "pca")
    places = {"store": folder / "store", "cache": folder / "cache", "listen": LOOPBACK, "events": LOOPBACK}
    return ServiceSettings(**(places | changes), worker=worker, guards=guards)


class Served:
    """A running server; `stop` it."""

    def __init__(self, folder: Path, guards: Guards | None = None, **changes: Any) -> None:
        self._settings = settings(folder, guards or Guards(), **changes)
        self._ready = threading.Event()
        self._error: Exception | None = None
        self.service: Service | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        if self._error is not None:
            raise self._error

    @property
    def running(self) -> Service:
        assert self.service is not None
        return self.service

    def stop(self) -> None:
        if self.service is not None:
            self.service.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self.service = Service(self._settings)
            self.service.run(self._ready.set)
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()


class Peer:
    """A client's socket that says and hears single messages."""

    def __init__(self, address: str, keys: Keys | None = None) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        protect(self.socket, keys)
        self.socket.connect(address)

    def say(self, message: Any, run: str = "r", epoch: str = "e") -> None:
        self.socket.send_multipart(encode(message, run, epoch, 0))

    def hear(self, seconds: float = 20.0) -> Any:
        """The next message; None where none comes."""
        if not self.socket.poll(int(seconds * 1000)):
            return None
        return decode(self.socket.recv_multipart()).message

    def ask(self, message: Any, run: str = "r", epoch: str = "e") -> Any:
        self.say(message, run, epoch)
        return self.hear()

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
