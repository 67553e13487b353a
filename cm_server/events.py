"""Thin, sequenced events: they say *when* to look; what there is to see is read from the store.

One XPUB socket; each event is two frames, the kind as topic and a msgpack map. A subscriber that sees a hole in the
sequence numbers, or another epoch (the server restarted), simply reads the store again.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgpack
import zmq

from cm_client.handshake import Handshakes
from cm_client.keys import Keys, protect
from cm_server.version import VERSION

HEARTBEAT_SECONDS = 1.0
"""The server publishes at least this often, so that silence means it is gone."""
DISCOVERY_FILE = "server.json"
KINDS = ("heartbeat", "run", "snapshot", "scalars", "alert", "gap")
_TOPICS = {b"", *(kind.encode() for kind in KINDS)}
_MOST_FRAME = 1024
"""Bytes a subscriber may send in one frame: all it has to say is a topic, and before that the handshake."""
_MOST_TAKEN = 256


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
    """The server's side.

    Subscriptions are taken one by one and only to ``KINDS``: libzmq would remember any number of any others.

    Args:
        context: of its socket.
        endpoint: where to listen.
        guard: prepares the socket before it is bound.
    """

    def __init__(
        self, context: zmq.Context, endpoint: str, guard: Callable[[zmq.Socket], None] = lambda socket: None
    ) -> None:
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 10_000)
        self._socket.setsockopt(zmq.RCVHWM, 64)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MOST_FRAME)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        guard(self._socket)
        self._socket.bind(endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._epoch = uuid.uuid4().hex
        self._sequence = 0
        self._last = 0.0

    def publish(self, kind: str, run: str = "", step: int = -1) -> None:
        """Sends one event to whoever listens; never blocks, and does nothing after `close`."""
        if self._socket.closed:
            return
        self._take_subscriptions()
        self._sequence += 1
        event = Event(self._epoch, self._sequence, kind, run, step, time.time())
        with suppress(zmq.ZMQError):  # nobody takes it, or the socket is closed already
            self._socket.send_multipart([kind.encode(), msgpack.packb(vars(event))], flags=zmq.NOBLOCK)
        self._last = time.monotonic()

    def heartbeat(self) -> None:
        """Publishes a heartbeat if nothing else was published for `HEARTBEAT_SECONDS`."""
        self._take_subscriptions()
        if time.monotonic() - self._last >= HEARTBEAT_SECONDS:
            self.publish("heartbeat")

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _take_subscriptions(self) -> None:
        """Lets those in who have subscribed to something that there is; anything else a peer says is passed by."""
        with suppress(zmq.ZMQError):
            for _ in range(_MOST_TAKEN):
                said, *more = self._socket.recv_multipart(zmq.NOBLOCK)
                if not more and said[:1] == b"\1" and said[1:] in _TOPICS:
                    self._socket.setsockopt(zmq.SUBSCRIBE, said[1:])


class EventSubscriber:
    """A listener's side: iterate over what arrives.

    Args:
        endpoint: the server's event address.
        context: of its socket.
        keys: for a server that wants to know who listens.
    """

    def __init__(self, endpoint: str, context: zmq.Context | None = None, keys: Keys | None = None) -> None:
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 4096)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._handshakes = Handshakes(self._socket, keys is not None)
        protect(self._socket, keys)
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)

    @property
    def trouble(self) -> str:
        """Why the server does not let us in, as far as that can be told; empty where it does."""
        return self._handshakes.trouble()

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
        self._handshakes.close()
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
