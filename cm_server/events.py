"""Thin, sequenced events: they say *when* to look; what there is to see is read from the store.

One XPUB socket; each event is two frames, the kind as topic and a msgpack map. A subscriber that sees a hole in the
sequence numbers, or another epoch (the server restarted), simply reads the store again.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgpack
import zmq

from cm_server.version import VERSION

HEARTBEAT_SECONDS = 1.0
"""The server publishes at least this often, so that silence means it is gone."""
DISCOVERY_FILE = "server.json"
KINDS = ("heartbeat", "run", "snapshot", "scalars", "alert", "gap")


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        epoch: one id per server process.
        sequence: grows by one per event within an epoch.
        kind: one of ``KINDS``; ``run`` means the run's row changed (state, activity, counts).
        run: run id, empty for a heartbeat.
        step: step of the snapshot, -1 where there is none.
        time: server's clock, seconds since 1970.
    """

    epoch: str
    sequence: int
    kind: str
    run: str
    step: int
    time: float


class EventPublisher:
    """The server's side."""

    def __init__(self, context: zmq.Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 10_000)
        self._socket.bind(endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._epoch = uuid.uuid4().hex
        self._sequence = 0
        self._last = 0.0

    def publish(self, kind: str, run: str = "", step: int = -1) -> None:
        """Sends one event to whoever listens; never blocks."""
        self._sequence += 1
        event = Event(self._epoch, self._sequence, kind, run, step, time.time())
        with suppress(zmq.Again):
            self._socket.send_multipart([kind.encode(), msgpack.packb(asdict(event))], flags=zmq.NOBLOCK)
        self._last = time.monotonic()

    def heartbeat(self) -> None:
        """Publishes a heartbeat if nothing else was published for `HEARTBEAT_SECONDS`."""
        if time.monotonic() - self._last >= HEARTBEAT_SECONDS:
            self.publish("heartbeat")

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


class EventSubscriber:
    """A listener's side: iterate over what arrives."""

    def __init__(self, endpoint: str, context: zmq.Context | None = None) -> None:
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 4096)
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)

    def poll(self, seconds: float) -> Iterator[Event]:
        """Waits up to ``seconds`` for the first event, then yields all that are there; malformed ones are skipped."""
        if not self._socket.poll(int(seconds * 1000)):
            return
        while True:
            try:
                frames = self._socket.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return
            with suppress(ValueError, TypeError, IndexError, msgpack.UnpackException):
                yield Event(**msgpack.unpackb(frames[1]))

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def write_discovery(store: Path, ingest: str, events: str) -> None:
    """Leaves the server's addresses in the store's folder, where a dashboard finds them."""
    path = store / DISCOVERY_FILE
    part = path.with_suffix(".part")
    part.write_text(
        json.dumps({"ingest": ingest, "events": events, "pid": os.getpid(), "started": time.time(), "version": VERSION})
    )
    part.replace(path)


def read_discovery(store: Path) -> dict[str, object] | None:
    """What the newest server on this store wrote; None if there never was one."""
    with suppress(OSError, ValueError):
        return json.loads((store / DISCOVERY_FILE).read_text())
    return None
