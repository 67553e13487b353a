"""Real receivers on loopback: HTTP and SMTP servers that answer as they are told to, and note what they got."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

from cm_server.notices import Item, Notice
from cm_server.report import Alert

ALERT = Alert(
    id=7, run="r1", layer="layer4", rule="ConceptStall", severity="warning", state="firing", step=1200,
    opened=1_790_000_000.0, updated=1_790_000_100.0, value=0.85,
    message="d_anchor of layer4 has <stopped> falling & stays at 0.850.", details={"slope": float("nan"), "n": [1, 2]},
)  # fmt: skip


def notice(*items: Item, channel: str = "webhook.test", key: str = "k" * 32) -> Notice:
    """A notice about `ALERT`, or about what is given."""
    return Notice(key, channel, "r1", 1_790_000_100.0, items or (Item(ALERT, "firing"),))


@dataclass
class Request:
    """What a receiver got."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"ok", **headers: str) -> Answer:
    """Answers so; header names with underscores for dashes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Receiver:
    """A running HTTP server; set ``answer`` to change what it does next."""

    answer: Answer
    port: int = 0
    scheme: str = "http"
    got: list[Request] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}/services/T0123/abcdefgh"

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Says nothing until the test is over."""
        self.ending.wait(30)

    def hang_mid_body(self, code: int) -> Answer:
        """Promises more than comes, and stays."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"the beginning")
            handler.wfile.flush()
            self.ending.wait(30)

        return answer

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """A header byte now and then, for ever: each of them in time, none of them the last."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.ending.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    def wait_for(self, count: int, seconds: float = 30.0) -> list[Request]:
        """The requests, once there are that many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, seconds), f"{len(self.got)} of {count} came"
            return list(self.got)


@contextmanager
def receiving(answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Runs an HTTP (or, with ``tls``, HTTPS) server."""
    receiver = Receiver(answer or status(200))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            with receiver.arrived:
                receiver.got.append(Request(self.path, dict(self.headers), body))
                receiver.arrived.notify_all()
            self.close_connection = True
            with suppress(OSError):
                receiver.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up, or that does not trust our certificate, is what we test

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver.scheme = "https"
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def certificates(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate authority's file and a server's context with a certificate for some names."""
    authority = trustme.CA()
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return path, context


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]
