"""Who may see the dashboard: which names it answers to, which pages may talk to it, and the token.

Pure: no socket, no clock. `dashboard.gate` asks it for every request. Three questions, each against a known attack:

- **Host**: a foreign page that has pointed its own name at this machine (DNS rebinding) still says its own name.
- **Origin**: a foreign page may open WebSockets and post forms across sites; the browser says where it comes from.
- **Token**: whoever can reach the port. It stands in the printed address once and is traded for a cookie that scripts
  cannot read; the cookie is derived from the token, so it holds over restarts and the browser never keeps the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from cm_server.notifiers.redaction import NO_SECRET, Secret

EVERYWHERE = ("0.0.0.0", "::", "")
"""Addresses that mean every interface of the machine."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Access:
    """The answers for one dashboard.

    Attributes:
        hosts: names it answers to, in lower case.
        addresses: whether it answers to any IP address, too: rebinding needs a name.
        token: what lets one in; empty: nothing is asked for.
        origin: the public address's scheme and host, where a proxy in front may change the Host header.
    """

    hosts: frozenset[str]
    addresses: bool = False
    token: Secret = NO_SECRET
    origin: str = ""

    @property
    def required(self) -> bool:
        """Whether a token is asked for."""
        return bool(self.token)

    @property
    def cookie_name(self) -> str:
        """Of this token's own: cookies know no ports, and two dashboards on one machine must not log each other out."""
        return "concept_monitor_" + self._derived("cookie name")[:12]

    @property
    def cookie_value(self) -> str:
        """What the browser keeps instead of the token."""
        return self._derived("cookie value")

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this dashboard."""
        name = hostname(host)
        return name in self.hosts or (self.addresses and _is_address(name))

    def knows_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is this dashboard's own page.

        Args:
            origin: the header; ``null`` (a sandboxed frame, a file) is nobody.
            host: the same request's Host header.
        """
        said = _place(origin)
        if said is None:
            return False
        return said in (_place(f"{said.scheme}://{host}"), _place(self.origin))

    def admits(self, token: str = "", cookies: Mapping[str, str] | None = None) -> bool:
        """Whether a token, or the cookie it was traded for, is the right one; always, where none is asked for."""
        if not self.required or same(token, self.token.reveal()):
            return True
        return same((cookies or {}).get(self.cookie_name, ""), self.cookie_value)

    def _derived(self, purpose: str) -> str:
        return hmac.new(self.token.reveal().encode(), purpose.encode(), hashlib.sha256).hexdigest()


def access_for(host: str, token: Secret = NO_SECRET, public_url: str = "") -> Access:
    """The answers for a dashboard that listens at ``host``.

    Args:
        host: the address it listens at.
        token: what lets one in; empty where `needs_token` says no.
        public_url: under which people open it, where that is another.
    """
    names = {"localhost", "127.0.0.1", "::1"} | ({host.lower()} - set(EVERYWHERE))
    if not is_loopback(host):
        names.add(socket.gethostname().lower())
    public = urlsplit(public_url.lower())
    names |= {public.hostname} if public.hostname else set()
    origin = f"{public.scheme}://{public.netloc}" if public.hostname else ""
    return Access(frozenset(names), not is_loopback(host), token, origin)


def needs_token(host: str, public_url: str = "") -> bool:
    """Whether others than this machine's users can reach it: by its address, or through a proxy under another."""
    public = urlsplit(public_url).hostname or ""
    return not is_loopback(host) or bool(public and not is_loopback(public))


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only.

    >>> [is_loopback(host) for host in ("localhost", "127.0.1.1", "::1", "0.0.0.0", "10.0.0.1", "monitor.lab")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def hostname(host: str) -> str:
    """A Host header's name in lower case, without port and brackets; empty if it makes no sense.

    >>> hostname("[::1]:8050"), hostname("Monitor.Lab:8050"), hostname("a b@c")
    ('::1', 'monitor.lab', '')
    """
    place = _place(f"http://{host}")
    return place.host if place else ""


def without_token(path: str, query: str) -> tuple[str, str]:
    """The token in a query, and the address to go on to without it.

    Args:
        path: as the browser sent it; several slashes or a backslash at its start would lead to another site.
        query: without its question mark.

    >>> without_token("/run/r1/map", "layer=fc&token=abc&unit=3")
    ('abc', '/run/r1/map?layer=fc&unit=3')
    >>> without_token("//evil.example/x", "token=abc")
    ('abc', '/evil.example/x')
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=64)
    except ValueError:
        pairs = []
    token = next((value for name, value in pairs if name == "token"), "")
    rest = urlencode([pair for pair in pairs if pair[0] != "token"])
    return token, "/" + path.lstrip("/\\") + (f"?{rest}" if rest else "")


def same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ; never for an empty one."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int


def _place(origin: str) -> _Place | None:
    """Scheme, host and port of an origin; None for what is none."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    strange = parts.username is not None or parts.path or parts.query or any(map(str.isspace, origin))
    if parts.scheme not in _PORTS or not parts.hostname or strange:
        return None
    return _Place(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])
