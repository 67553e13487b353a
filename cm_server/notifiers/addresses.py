"""Which addresses a webhook may reach, checked on the very address that is connected to.

A check of the name alone would be worthless: its owner can answer one address to the check and another to the
connection (DNS rebinding), or give a name to ``127.0.0.1``. So `GuardedBackend` resolves once, checks every address
and connects to one of those; TLS still verifies the certificate for the name.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from cm_server.notifiers.base import DeliveryError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet; what is wrapped into an IPv6 address counts as itself.

    >>> [is_public(ipaddress.ip_address(a)) for a in ("1.1.1.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def is_reachable(address: Address, allow_private: bool) -> bool:
    """Whether a webhook may go there."""
    if allow_private:
        return not (address.is_multicast or address.is_unspecified)
    return is_public(address)


def system_addresses(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore.NetworkBackend):
    """httpcore's network with two rules: only allowed addresses, and a time limit for everything together.

    Args:
        allow_private: also loopback, link-local and private addresses.
        deadline: monotonic time after which nothing waits any more.
        resolve: addresses of a host.
    """

    def __init__(
        self,
        allow_private: bool,
        deadline: float,
        resolve: Callable[[str, int], list[str]] = system_addresses,
    ) -> None:
        self._allow_private, self._deadline, self._resolve = allow_private, deadline, resolve
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the first allowed address of a host that answers."""
        last: Exception | None = None
        for address in self._allowed(host, port):
            try:
                stream = self._inner.connect_tcp(address, port, left(self._deadline), local_address, socket_options)
                return _Limited(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Not for webhooks."""
        raise httpcore.ConnectError("webhooks have no unix sockets")

    def _allowed(self, host: str, port: int) -> list[str]:
        try:
            found = self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        allowed = [a for a in found if is_reachable(_parsed(a), self._allow_private)]
        if found and not allowed:
            raise DeliveryError(
                f"{host} is at {', '.join(found)}, which is not on the open internet: "
                "set allow_private = true for this channel if that is meant",
                permanent=True,
            )
        return allowed


class _Limited(httpcore.NetworkStream):
    """A stream whose every wait ends at one deadline: a peer that sends a byte now and then cannot hold us."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, left(self._deadline))
        return _Limited(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def left(deadline: float) -> float:
    """Seconds until a monotonic time.

    Raises:
        httpcore.ReadTimeout: there are none.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the time limit is over")
    return seconds


def _parsed(address: str) -> Address:
    return ipaddress.ip_address(address.split("%", 1)[0])
