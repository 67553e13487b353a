"""Everything between the network and the server's sockets: keys, the doorkeeper, and limits on connections."""

from __future__ import annotations

import time

import zmq

from cm_server import doorkeeper
from cm_server.connections import ConnectionLimit, allowed_connections, prepare
from cm_server.doorkeeper import Doorkeeper
from cm_server.guards import Guards
from cm_server.keyring import Keyring


class Gate:
    """Guards the sockets of a context of its own.

    Args:
        guards: the settings.

    Attributes:
        context: of the sockets.
        keyring: who may enter, None where there are no keys.

    Raises:
        KeyringError: the folder of keys is not usable.
    """

    def __init__(self, guards: Guards) -> None:
        self.keyring = Keyring(guards.keys) if guards.keys is not None else None
        self.context = zmq.Context()
        self._doorkeeper = Doorkeeper(self.context, self.keyring) if self.keyring is not None else None
        self._most = max(1, allowed_connections(2 * guards.connections) // 2)
        self._limits: list[ConnectionLimit] = []
        self._listeners: list[ConnectionLimit] = []
        self._known: frozenset[bytes] = frozenset()

    def guard_ingest(self, socket: zmq.Socket) -> None:
        """Prepares the socket for training processes, before it is bound."""
        self._guard(socket, doorkeeper.INGEST_DOMAIN)

    def guard_events(self, socket: zmq.Socket) -> None:
        """Prepares the socket for dashboards, before it is bound."""
        self._listeners.append(self._guard(socket, doorkeeper.EVENTS_DOMAIN))

    @property
    def figures(self) -> dict[str, int]:
        """Connections now, and how many were denied or cut so far."""
        denied = self._doorkeeper.denied if self._doorkeeper is not None else 0
        cut = sum(limit.cut for limit in self._limits)
        return {"connections": sum(map(len, self._limits)), "denied": denied, "cut": cut}

    def register(self, poller: zmq.Poller) -> None:
        """Has a poller wake up where the gate has something to do."""
        for socket in (limit.monitor for limit in self._limits):
            poller.register(socket, zmq.POLLIN)
        if self._doorkeeper is not None:
            poller.register(self._doorkeeper.socket, zmq.POLLIN)

    def serve(self) -> None:
        """Lets in and cuts off, as far as something waits."""
        now = time.monotonic()
        if self._doorkeeper is not None:
            self._doorkeeper.serve(now)
        for limit in self._limits:
            limit.serve(now)
        self._turn_out()

    def _turn_out(self) -> None:
        """Where a key counts no more, all who listen have to show theirs again: which of them has it nobody can tell.

        A writer needs no such thing: each of its messages is known by its key (`intake`).
        """
        known = frozenset(self.keyring.clients()) if self.keyring is not None else frozenset()
        if self._known - known:
            for limit in self._listeners:
                limit.end_all()
        self._known = known

    def close(self) -> None:
        """Nobody new gets in."""
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        for limit in self._limits:
            limit.close()

    def _guard(self, socket: zmq.Socket, domain: bytes) -> ConnectionLimit:
        prepare(socket)
        if self.keyring is not None:
            doorkeeper.guard(socket, self.keyring, domain)
        self._limits.append(ConnectionLimit(socket, self._most))
        return self._limits[-1]
