"""How many connections a socket may hold: ZeroMQ itself would take them until the process has no descriptors left.

The newest ones beyond the limit are cut. Their clients try again later, and nothing is lost by it; those that are in
stay in. What never finishes the handshake is cut by ZeroMQ itself after `HANDSHAKE_MS`, and a peer that is gone
without saying so after `DEAD_MS`.
"""

from __future__ import annotations

import logging
import os
import resource
import socket as sockets
import struct
from collections.abc import Iterator
from contextlib import suppress

import zmq

from cm_server.core.allowance import Allowance

logger = logging.getLogger(__name__)

RESERVED = 128
"""Descriptors kept for the store, the analysis and the libraries."""
HANDSHAKE_MS = 10_000
BEAT_MS, DEAD_MS = 15_000, 60_000
_EVENT = struct.Struct("=HI")


class ConnectionLimit:
    """Counts the connections of a bound socket, and cuts those that are too many.

    Args:
        socket: counted from now on: not yet bound.
        most: how many it may hold.

    Attributes:
        monitor: readable when a connection has come or gone.
        cut: how many were.
    """

    def __init__(self, socket: zmq.Socket, most: int) -> None:
        self._socket, self._most = socket, most
        self._open: set[int] = set()
        self.cut = 0
        self._may_log = Allowance(rate=0.1, burst=3)
        address = f"inproc://connections-{id(self)}"
        socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self.monitor = socket.context.socket(zmq.PAIR)
        # An event must never wait for us to read it: it is ZeroMQ's own thread that tells.
        self.monitor.setsockopt(zmq.RCVHWM, 0)
        self.monitor.setsockopt(zmq.LINGER, 0)
        self.monitor.connect(address)

    def __len__(self) -> int:
        return len(self._open)

    def serve(self, now: float) -> None:
        """Takes note of what has come and gone; ``now`` is monotonic seconds."""
        for event, descriptor in self._events():
            if event != zmq.EVENT_ACCEPTED:
                self._open.discard(descriptor)
            elif len(self._open) < self._most:
                self._open.add(descriptor)
            elif self._shut(descriptor):
                self.cut += 1
                if self._may_log.take(now):
                    logger.warning(
                        "%d connections, as many as are allowed: a new one was cut (%d so far); "
                        "raise --connections where that many clients are meant to be there",
                        self._most,
                        self.cut,
                    )

    def end_all(self) -> None:
        """Ends every connection; those who may will connect again by themselves."""
        for descriptor in self._open:
            self._shut(descriptor)

    def close(self) -> None:
        """Counts no longer."""
        if not self._socket.closed:  # which ends it too
            self._socket.disable_monitor()
        self.monitor.close(0)

    def _events(self) -> Iterator[tuple[int, int]]:
        with suppress(zmq.Again):
            while True:
                yield _EVENT.unpack(self.monitor.recv_multipart(zmq.NOBLOCK)[0])

    def _shut(self, descriptor: int) -> bool:
        """Ends a connection from below; ZeroMQ then sees that it is gone.

        By now the number may belong to something else, so it is only touched where it leads to our own port.
        """
        port = str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT)).rpartition(":")[2]
        try:
            with sockets.socket(fileno=os.dup(descriptor)) as connection:
                if str(connection.getsockname()[1]) != port:
                    return False
                connection.shutdown(sockets.SHUT_RDWR)
        except (OSError, IndexError, TypeError):
            return False
        return True


def prepare(socket: zmq.Socket) -> None:
    """Has ZeroMQ let go of peers that do not finish the handshake, or are gone."""
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, BEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_MS)


def allowed_connections(wanted: int) -> int:
    """How many connections there may be in all: ``wanted``, or as many as the system lets this process open.

    Raises the process's soft limit on descriptors where the hard one allows it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + RESERVED if hard == resource.RLIM_INFINITY else min(hard, wanted + RESERVED)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    found = wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED))
    if found < wanted:
        logger.warning("%d connections are all that `ulimit -n` allows for, not %d", found, wanted)
    return found
