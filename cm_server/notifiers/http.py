"""One guarded HTTP POST: no redirects, no proxies, bounded time and answer. httpcore does the talking."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpcore

from cm_server.notifiers.addresses import GuardedBackend, system_addresses
from cm_server.notifiers.base import DeliveryError
from cm_server.notifiers.redaction import Secret, place
from cm_server.version import VERSION

MOST_ANSWER = 16 * 1024
"""Bytes of an answer that are read at most; of a success nothing is read at all."""
_SHOWN = 200
_TRY_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Endpoint:
    """Where to post to.

    Attributes:
        url: whole, secret (in chat webhooks the path is the key).
        allow_private: whether loopback, link-local and private addresses may be reached.
        ca_file: certificates to trust instead of the system's; empty for the system's.
        headers: sent along.
        resolve: addresses of a host; another one in tests.
    """

    url: Secret
    allow_private: bool = False
    ca_file: str = ""
    headers: Mapping[str, Secret] = field(default_factory=dict)
    resolve: Callable[[str, int], list[str]] = system_addresses


def post(endpoint: Endpoint, body: bytes, seconds: float, headers: Mapping[str, str]) -> str:
    """Posts JSON.

    Args:
        endpoint: where to.
        body: UTF-8 JSON.
        seconds: limit for all of it: name, connection, TLS, request and answer.
        headers: beside the endpoint's own.

    Returns:
        The status, for people.

    Raises:
        DeliveryError: anything but a 2xx answer.
    """
    deadline = time.monotonic() + seconds
    backend = GuardedBackend(endpoint.allow_private, deadline, endpoint.resolve)
    where = place(endpoint.url.reveal())
    sent = [("Content-Type", "application/json"), ("User-Agent", f"concept-monitor/{VERSION}")]
    sent += [("Connection", "close"), *headers.items()]
    sent += [(name, value.reveal()) for name, value in endpoint.headers.items()]
    try:
        with httpcore.ConnectionPool(ssl_context=_tls(endpoint), network_backend=backend) as pool:
            request = pool.stream("POST", endpoint.url.reveal(), headers=sent, content=body)
            with request as response:
                return _judge(response, where)
    except (httpcore.TimeoutException, TimeoutError):
        raise DeliveryError(f"{where} did not answer within {seconds:g} s") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise DeliveryError(f"{where}: {_words(error)}") from None


def _judge(response: httpcore.Response, where: str) -> str:
    status = response.status
    if 200 <= status < 300:
        return f"{where} answered {status}"
    if 300 <= status < 400:
        raise DeliveryError(
            f"{where} answered {status}, a redirect, which is not followed: give the final URL", permanent=True
        )
    permanent = status < 500 and status not in _TRY_AGAIN
    headers = {name.lower(): value for name, value in response.headers}
    wait = _retry_after(headers.get(b"retry-after", b"").decode("latin-1"))
    raise DeliveryError(f"{where} answered {status}{_said(response)}", permanent=permanent, retry_after=wait)


def _said(response: httpcore.Response) -> str:
    """The beginning of an answer, as far as it comes."""
    body = b""
    with suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        for chunk in response.iter_stream():
            body += chunk[: MOST_ANSWER - len(body)]
            if len(body) >= MOST_ANSWER:
                break
    text = " ".join(body.decode("utf-8", "replace").split())
    shown = "".join(c if c.isprintable() else "�" for c in text[:_SHOWN])
    return f": {shown}" if shown else ""


def _retry_after(value: str) -> float:
    """Seconds, from a number or a date.

    >>> _retry_after("120"), _retry_after("soon"), _retry_after("")
    (120.0, 0.0, 0.0)
    """
    with suppress(ValueError):
        return min(max(0.0, float(value)), 86_400.0)
    with suppress(ValueError, TypeError):
        return min(max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()), 86_400.0)
    return 0.0


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=endpoint.ca_file or None)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__
