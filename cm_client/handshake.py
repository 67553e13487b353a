"""Why a server would not let us in, as far as ZeroMQ can tell: else it looks as if there were no server at all."""

from __future__ import annotations

import struct
from contextlib import suppress

import zmq

_EVENTS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_EVENT = struct.Struct("=HI")
"""A monitor's event: which, and a value. (pyzmq's own reader would import asyncio.)"""
_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
UNKNOWN_KEY = (
    "it does not know this key, or the key is of another role: ask for one made by `concept-monitor keygen NAME`"
)
KEY_WANTED = "it wants a key: set CM_KEY to a file made by `concept-monitor keygen`"
NO_KEY_WANTED = "it takes no keys: leave CM_KEY out, or start it with --keys"
OTHER_SERVER = "the handshake was cut: the key file may be for another server"


class Handshakes:
    """Watches a client's socket for handshakes that fail.

    Args:
        socket: not yet connected; closed after this.
        keyed: whether it speaks CURVE.
    """

    def __init__(self, socket: zmq.Socket, keyed: bool) -> None:
        self._socket, self._keyed = socket, keyed
        self._monitor = socket.get_monitor_socket(_EVENTS)
        self._trouble = ""

    def trouble(self) -> str:
        """What was wrong with the last handshake that failed; empty where none did, or nothing can be told of it."""
        with suppress(zmq.Again):
            while True:
                event, value = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
                self._trouble = reason(event, value, self._keyed) or self._trouble
        return self._trouble

    def forget(self) -> None:
        """We are in: what was wrong before is over."""
        self._trouble = ""

    def close(self) -> None:
        """Watches no longer."""
        self._socket.disable_monitor()
        self._monitor.close(0)


def reason(event: int, value: int, keyed: bool) -> str:
    """What an event of ZeroMQ's monitor means, in words; empty where it may mean many things.

    Example:
        >>> reason(int(zmq.EVENT_HANDSHAKE_FAILED_AUTH), 400, keyed=True) == UNKNOWN_KEY
        True
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return UNKNOWN_KEY
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _MISMATCH:
        return NO_KEY_WANTED if keyed else KEY_WANTED
    return OTHER_SERVER if keyed else ""
