"""The dashboard's socket and its address in words."""

from __future__ import annotations

import errno
import socket
from urllib.parse import urlsplit

from cm_server.config import ConfigError
from dashboard.access import EVERYWHERE


class DashboardError(RuntimeError):
    """The dashboard cannot start; the message is one line with the cure."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        DashboardError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise DashboardError(_why(host, port, error)) from None
    return listener


def address(host: str, listener: socket.socket) -> str:
    """The page's URL; for an address that means "all interfaces", the one that other machines reach this one by."""
    shown = outward(listener.family) if host in EVERYWHERE else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"


def outward(family: int = socket.AF_INET) -> str:
    """This machine's address on the way to others; the loopback's where there is no way. Nothing is sent."""
    beyond, own = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("203.0.113.1", "127.0.0.1")  # nobody's
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((beyond, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return own


def checked_url(url: str) -> str:
    """A public address that makes sense.

    Raises:
        ConfigError: it is no http or https address, or has a path.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        sensible = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        _ = parts.port
    except ValueError:
        sensible, parts = False, urlsplit("")
    if not sensible or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"--public-url is {url!r}: give scheme and host, such as https://monitor.example.com")
    return url


def _why(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OverflowError):
        return f"port {port} is not a port: give --port 0 to 65535"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give another with --port, or --port 0 for a free one"
    return f"cannot listen at {host}:{port} ({error}): give another --host or --port"
