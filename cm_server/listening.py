"""Where the server may listen: on loopback, or anywhere with keys; and its ROUTER bound there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import zmq

from cm_client.protocol import limits


class ServiceError(RuntimeError):
    """The server cannot start; the message names value and cure."""


def check(flag: str, address: str, keyed: bool) -> None:
    """Whether the server may listen there; ``keyed``: it lets only known keys in.

    Raises:
        ServiceError: it is no address, or not loopback and there are no keys.
    """
    if not address.startswith("tcp://"):
        raise ServiceError(f"{flag} is {address!r}: give tcp://127.0.0.1:PORT")
    if not (keyed or is_loopback(address)):
        raise ServiceError(
            f"{flag} is {address!r}, which is not a loopback address: an open port without keys lets anyone in. "
            "Make keys with `concept-monitor keygen` and start the server with --keys DIR; "
            f"or give {flag} tcp://127.0.0.1:PORT and reach it through ssh -L"
        )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address.

    Example:
        >>> [is_loopback(a) for a in ("tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1")]
        [True, True, True]
        >>> [is_loopback(a) for a in ("tcp://*:1", "tcp://0.0.0.0:1", "tcp://127.example.org:1", "tcp://eth0:1")]
        [False, False, False, False]
    """
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(address: str) -> str:
    """An address under which this machine reaches a bound socket: a wildcard is none.

    Example:
        >>> reachable("tcp://0.0.0.0:7801"), reachable("tcp://[::]:7801"), reachable("tcp://10.0.0.7:1")
        ('tcp://127.0.0.1:7801', 'tcp://[::1]:7801', 'tcp://10.0.0.7:1')
    """
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def open_router(context: zmq.Context) -> zmq.Socket:
    """The socket for training processes, not yet bound."""
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.MAXMSGSIZE, limits.MAX_FRAME)
    router.setsockopt(zmq.RCVHWM, 256)
    router.setsockopt(zmq.SNDHWM, 1000)
    return router


def bind(socket: zmq.Socket, flag: str, address: str) -> str:
    """Binds a socket; returns the address with the port that was really taken.

    Raises:
        ServiceError: it is taken, or not ours.
    """
    socket.setsockopt(zmq.IPV6, int("[" in address))
    with taken(flag, address):
        socket.bind(address)
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


@contextmanager
def taken(flag: str, address: str) -> Iterator[None]:
    """Says in words why an address cannot be bound in this block.

    Raises:
        ServiceError: it is taken, or not ours.
    """
    try:
        yield
    except zmq.ZMQError as error:
        raise ServiceError(
            f"cannot listen on {address} ({error.strerror}): is another server running? "
            f"choose another address with {flag}"
        ) from None
