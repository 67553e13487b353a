"""``python -m dashboard``: serves the dashboard of one store."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any

import uvicorn

from cm_client.errors import ClientError
from cm_client.keys import told_keys
from cm_server.config import DEFAULT_DASHBOARD_PORT, KEY, ConfigError, Option, default_store, parser_for, resolve
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from dashboard.app import create_app

OPTIONS = (
    Option("store", str, default_store(), "folder of the runs", metavar="DIR"),
    Option("host", str, "127.0.0.1", "address to serve at"),
    Option("port", int, DEFAULT_DASHBOARD_PORT, "port to serve at, 0 for a free one", minimum=0),
    Option("events", str, "", "the server's event address; empty: as the store says", metavar="ADDRESS"),
    KEY,
    Option("open_browser", bool, False, "open the page in a browser"),
    Option("wait", bool, False, "wait for the store if there is none yet"),
    Option("ready_file", str, "", "write the address here as JSON when listening", metavar="FILE"),
)


class DashboardError(RuntimeError):
    """The dashboard cannot start; the message is one line with the cure."""


def main(arguments: list[str] | None = None) -> int:
    """Serves until interrupted.

    Returns:
        0 when interrupted, 2 for a setting, store or port that does not work.
    """
    parser = parser_for("concept-monitor dashboard", "Serves the live dashboard of a store.", OPTIONS)
    try:
        settings = resolve(OPTIONS, parser.parse_args(arguments), "dashboard")
        settings["keys"] = told_keys(settings["key"], {})
        listener = _prepare(settings)
    except (ConfigError, ClientError, StoreError, DashboardError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    serve(settings, listener)
    return 0


def serve(settings: dict[str, Any], listener: socket.socket) -> None:
    """Runs the web server on a bound socket until it is interrupted."""
    app = create_app(Path(settings["store"]), settings["events"] or None, host=settings["host"], keys=settings["keys"])
    config = uvicorn.Config(
        app.server,
        log_level="warning",
        access_log=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        timeout_graceful_shutdown=1,
    )
    server = _Announcing(config, address(settings["host"], listener), settings)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        logging.getLogger(__name__).info("stopped by the keyboard")
    finally:
        app.feed.stop()


def address(host: str, listener: socket.socket) -> str:
    """The page's URL; an address that means "all interfaces" is shown as this machine's own."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"


class _Announcing(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, url: str, settings: dict[str, Any]) -> None:
        super().__init__(config)
        self._url, self._settings = url, settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._settings["ready_file"]:
            path = Path(self._settings["ready_file"])
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps({"url": self._url, "pid": os.getpid()}))
            part.replace(path)
        print(f"dashboard: {self._url}", flush=True)
        if self._settings["open_browser"]:
            webbrowser.open(self._url)


def _prepare(settings: dict[str, Any]) -> socket.socket:
    if not settings["wait"]:
        StoreReader(Path(settings["store"])).close()
    return _bind(settings["host"], settings["port"])


def _bind(host: str, port: int) -> socket.socket:
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


def _why(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OverflowError):
        return f"port {port} is not a port: give --port 0 to 65535"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give another with --port, or --port 0 for a free one"
    return f"cannot listen at {host}:{port} ({error}): give another --host or --port"
