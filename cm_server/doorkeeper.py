"""Who may connect: ZeroMQ's authentication protocol (ZAP, RFC 27), answered from the list of clients.

It fails closed: the sockets enforce their ZAP domain, so that without a doorkeeper nobody gets in, and whatever the
doorkeeper cannot make sense of is denied. A client is known by its public key; roles are told apart by the socket.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import zmq
from zmq.utils import z85

from cm_server.core.allowance import Allowance
from cm_server.keyring import Client, Keyring

logger = logging.getLogger(__name__)

INGEST_DOMAIN, EVENTS_DOMAIN = b"cm-ingest", b"cm-events"
_MAY_ENTER = {INGEST_DOMAIN: ("writer",), EVENTS_DOMAIN: ("reader", "writer")}
_ADDRESS = "inproc://zeromq.zap.01"
_BURST = 64
_GRANTED, _DENIED, _BAD = b"200", b"400", b"500"


class Doorkeeper:
    """Answers ZeroMQ's questions; made before any socket of the context is bound.

    Args:
        context: of the sockets that are guarded.
        keyring: the list.
    """

    def __init__(self, context: zmq.Context, keyring: Keyring) -> None:
        self._keyring = keyring
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADDRESS)
        self.denied = 0
        self._may_log = Allowance(rate=0.2, burst=10)

    def serve(self, now: float) -> None:
        """Answers what is asked; ``now`` is monotonic seconds."""
        with suppress(zmq.Again):
            for _ in range(_BURST):
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
                answer, who = decide(frames, self._keyring.clients())
                self.socket.send_multipart(answer)
                if answer[2] != _GRANTED:
                    self.denied += 1
                    if self._may_log.take(now):
                        logger.warning("%s was not let in: %s (%d so far)", who, answer[3].decode(), self.denied)

    def close(self) -> None:
        """Answers no longer: from now on nobody new gets in."""
        self.socket.close(0)


def guard(socket: zmq.Socket, keyring: Keyring, domain: bytes) -> None:
    """Has a server's socket speak CURVE only, and ask the doorkeeper about each key; called before it is bound."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keyring.secret)
    # Without this a missing or stopped doorkeeper would let everyone in.
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def decide(frames: Sequence[bytes], clients: Mapping[bytes, Client]) -> tuple[list[bytes], str]:
    """The answer to one question. Pure.

    Args:
        frames: version, request id, domain, address, routing id, mechanism, then the public key (32 bytes).
        clients: who is let in, by public key in Z85.

    Returns:
        Version, request id, status, its text, user id (the public key in Z85), metadata; and who asked, for the log.
    """
    request = frames[1] if len(frames) > 1 else b""
    if len(frames) < 6 or frames[0] != b"1.0":
        return [b"1.0", request, _BAD, b"not a question of ZAP 1.0", b"", b""], "somebody"
    domain, address, mechanism, shown = frames[2], frames[3].decode("ascii", "replace")[:64], frames[5], frames[6:]
    if mechanism != b"CURVE" or len(shown) != 1 or len(shown[0]) != 32:
        return [b"1.0", request, _DENIED, b"no key was shown", b"", b""], address
    key = z85.encode(shown[0])
    client = clients.get(key)
    if client is None:
        return [b"1.0", request, _DENIED, b"unknown key", b"", b""], f"{address} with the key {key.decode()}"
    who = f"{address} as {client.name}"
    if client.role not in _MAY_ENTER.get(domain, ()):
        return [b"1.0", request, _DENIED, f"role {client.role} may not enter here".encode(), b"", b""], who
    return [b"1.0", request, _GRANTED, b"welcome", key, b""], who
