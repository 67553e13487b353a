"""``python -m dashboard``: serves the dashboard of one store."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from cm_client.errors import ClientError
from cm_client.keys import told_keys
from cm_server import logs
from cm_server.config import (
    DASHBOARD_DOOR,
    DEFAULT_DASHBOARD_PORT,
    KEY,
    STORE,
    ConfigError,
    Option,
    parser_for,
    resolve,
)
from cm_server.notifiers.redaction import NO_SECRET, Redactor
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from dashboard.access import Access, access_for, is_loopback, needs_token
from dashboard.app import create_app
from dashboard.listening import DashboardError, address, bind, checked_url
from dashboard.tokens import kept_token, new_token

OPTIONS = (
    STORE,
    Option("host", str, "127.0.0.1", "address to serve at"),
    Option("port", int, DEFAULT_DASHBOARD_PORT, "port to serve at, 0 for a free one", minimum=0),
    Option("events", str, "", "the server's event address; empty: as the store says", metavar="ADDRESS"),
    KEY,
    *DASHBOARD_DOOR,
    Option("open_browser", bool, False, "open the page in a browser"),
    Option("wait", bool, False, "wait for the store if there is none yet"),
    Option("ready_file", str, "", "write the address here as JSON when listening", metavar="FILE"),
    *logs.OPTIONS,
)
LOG = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Serves until interrupted.

    Returns:
        0 when interrupted, 2 for a setting, store or port that does not work.
    """
    parser = parser_for("concept-monitor dashboard", "Serves the live dashboard of a store.", OPTIONS)
    redact = Redactor()
    try:
        settings = resolve(OPTIONS, parser.parse_args(arguments), "dashboard")
        logs.set_up(settings, redact)
        access = _access(settings)
        settings["keys"] = told_keys(settings["key"], {})
        listener = _prepare(settings)
    except (ConfigError, ClientError, StoreError, DashboardError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if access.required:
        redact.add(access.token.reveal(), access.cookie_value)
    serve(settings, listener, access)
    return 0


def serve(settings: dict[str, Any], listener: socket.socket, access: Access) -> None:
    """Runs the web server on a bound socket until it is interrupted."""
    app = create_app(Path(settings["store"]), settings["events"] or None, access=access, keys=settings["keys"])
    config = uvicorn.Config(
        app.server,
        log_config=None,
        log_level="warning",
        access_log=False,  # it would write the token's only appearance in an address into the log
        server_header=False,
        ws_max_size=64 * 1024,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        timeout_graceful_shutdown=1,
    )
    server = _Announcing(config, Place(address(settings["host"], listener), settings, access))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it has shut down
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        LOG.info("stopped by the keyboard")
    finally:
        app.feed.stop()


@dataclass(frozen=True)
class Place:
    """Where the dashboard is to be found, as told to people and to programs.

    Attributes:
        own: the page's address on this machine.
        settings: the command's.
        access: who may see it.
    """

    own: str
    settings: dict[str, Any]
    access: Access

    @property
    def url(self) -> str:
        """The address to open, without the token."""
        return (self.settings["public_url"].rstrip("/") + "/") if self.settings["public_url"] else self.own

    @property
    def key(self) -> str:
        """What to append to it: the token where it is known nowhere else; where it is kept in a file, not the token."""
        if not self.access.required:
            return ""
        kept = self.settings["token_file"]
        return f"?token=<what is in {kept}>" if kept else f"?token={self.access.token.reveal()}"

    def announce(self) -> None:
        """Says it on standard output, in the ready file and to the browser."""
        secret = "" if self.settings["token_file"] else self.key
        if self.settings["ready_file"]:
            _write(Path(self.settings["ready_file"]), {"url": self.url + secret, "pid": os.getpid()})
        print(f"dashboard: {self.url}{self.key}", flush=True)
        if not is_loopback(self.settings["host"]) and not self.url.startswith("https:"):
            LOG.warning("what the dashboard sends is not encrypted: put TLS before it (deploy/proxy), and --public-url")
        if self.settings["open_browser"]:
            webbrowser.open(self.url)  # without the token: others see what a browser was started with


class _Announcing(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, place: Place) -> None:
        super().__init__(config)
        self._place = place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._place.announce()


def _access(settings: dict[str, Any]) -> Access:
    """Who may see it.

    Raises:
        ConfigError: the token file or the public address does not work.
    """
    host, public = settings["host"], checked_url(settings["public_url"])
    if settings["token_file"]:
        token = kept_token(Path(settings["token_file"]).expanduser())
    else:
        token = new_token() if needs_token(host, public) else NO_SECRET
    return access_for(host, token, public)


def _prepare(settings: dict[str, Any]) -> socket.socket:
    if not settings["wait"]:
        StoreReader(Path(settings["store"])).close()
    return bind(settings["host"], settings["port"])


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    part.replace(path)
