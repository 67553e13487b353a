"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, for the machinery around a server. Off unless asked for.

It only reads, asks for no token and tells no name of a run: figures by rule, outcome and stage, nothing of a client's.
Few connections at a time, each for a few seconds at most: whoever holds them open starves this port and nothing else.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cm_server.vitals import Vitals

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 16
SECONDS = 5.0
"""A request has to be here within this time."""


class StatusError(RuntimeError):
    """The port cannot be opened; the message names value and cure."""


class StatusServer:
    """Answers on a thread of its own from `start` to `close`.

    Args:
        address: ``HOST:PORT``; port 0 takes a free one.
        vitals: how the server is.
        registry: what is scraped.

    Raises:
        StatusError: the address makes no sense, or is in use.
    """

    def __init__(self, address: str, vitals: Vitals, registry: CollectorRegistry) -> None:
        host, port = split(address)
        answers = type("Answers", (_Answers,), {"vitals": vitals, "registry": registry})
        try:
            self._server = _Server((host, port), answers)
        except (OSError, OverflowError) as error:
            raise StatusError(
                f"cannot listen at {address} ({error}): choose another address with --http HOST:PORT"
            ) from None
        bound, number = self._server.server_address[:2]
        self.address = f"{f'[{bound}]' if ':' in str(bound) else bound}:{number}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def close(self) -> None:
        """Ends."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def split(address: str) -> tuple[str, int]:
    """Host and port of an address.

    Raises:
        StatusError: it is none.

    >>> split("127.0.0.1:7803"), split("[::]:0")
    (('127.0.0.1', 7803), ('::', 0))
    """
    host, colon, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StatusError(f"--http is {address!r}: give HOST:PORT, such as 127.0.0.1:7803")
    return host.strip("[]"), int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answers: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, answers)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(SECONDS, _cut, (request,))  # a timeout of the socket alone lets a slow dripper go on
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        logger.debug("a request of %s broke off", client_address, exc_info=True)  # a client that went away is no news


def _cut(request: socket) -> None:
    with suppress(OSError):
        request.shutdown(SHUT_RDWR)


class _Answers(BaseHTTPRequestHandler):
    vitals: Vitals
    registry: CollectorRegistry
    timeout = SECONDS
    server_version = "concept-monitor"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._say(self.vitals.dead())
        elif path == "/readyz":
            self._say(self.vitals.unready())
        elif path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, content_type, encode(self.registry))
        else:
            self._send(404, "text/plain; charset=utf-8", b"there are /healthz, /readyz and /metrics\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _say(self, reason: str) -> None:
        said = {"ok": not reason, "phase": self.vitals.phase} | ({"reason": reason} if reason else {})
        self._send(503 if reason else 200, "application/json", json.dumps(said).encode() + b"\n")

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""
