"""``concept-monitor up``: server and dashboard together, until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cm_server.commands.alert_tail import AlertTail
from cm_server.commands.keeper import Keeper
from cm_server.commands.processes import Child, start_dashboard, start_server
from cm_server.commands.server import OPTIONS as SERVER_OPTIONS
from cm_server.commands.server import notify_settings
from cm_server.config import DASHBOARD_DOOR, DEFAULT_DASHBOARD_PORT, Option, parser_for, resolve
from cm_server.keyring import Keyring, reader_file

OPTIONS = (
    *SERVER_OPTIONS,
    Option("host", str, "127.0.0.1", "address the dashboard listens on"),
    Option("port", int, DEFAULT_DASHBOARD_PORT, "the dashboard's port; 0 takes a free one", minimum=0),
    *DASHBOARD_DOOR,
)
_DESCRIPTION = "Starts server and dashboard together and keeps them up until Ctrl-C."


def run(arguments: Sequence[str]) -> int:
    """Starts both, prints where they are, waits."""
    flags = parser_for("concept-monitor up", _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "up")
    store = Path(values["store"])
    logs = Path(tempfile.mkdtemp(prefix="concept-monitor-"))
    notify = notify_settings(flags, values)  # here, so that what is wrong with it is said here
    tail = AlertTail(store) if notify.terminal else None
    given = {option.name: values[option.name] for option in SERVER_OPTIONS if _is_said(option, values[option.name])}
    given |= {"config": flags.config} if hasattr(flags, "config") else {}
    given.pop("store")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    shown = _of_dashboard(values) | _dashboard_key(values["keys"])
    child, addresses = start_server(store, logs, given)
    server = Keeper(child, lambda: start_server(store, logs, given | _same_ports(given, addresses))[0])
    try:
        page, url = start_dashboard(store, logs, shown)
        dashboard = Keeper(page, lambda: _dashboard_again(store, logs, shown, url))
        try:
            print(f"dashboard  {url}\nserver     {addresses['ingest']}   (CM_SERVER for training scripts)\n"
                  f"store      {store}\nlogs       {logs}\nCtrl-C stops both.", flush=True)  # fmt: skip
            return _watch(server, dashboard, stopped, tail)
        finally:
            dashboard.child.stop()
    except KeyboardInterrupt:
        return 0
    finally:
        server.child.stop()


def _dashboard_key(folder: str) -> dict[str, str]:
    """The dashboard's own option where the server has keys.

    Raises:
        KeyringError: there is none to give it.
    """
    return {"key": str(reader_file(Keyring(Path(folder).expanduser())))} if folder else {}


def _same_ports(given: Mapping[str, Any], addresses: Mapping[str, Any]) -> dict[str, Any]:
    """Where port 0 took a free one, a server that is started again must take the same."""
    found = {"listen": addresses["ingest"], "events": addresses["events"]}
    return {name: address for name, address in found.items() if str(given[name]).endswith((":0", ":*"))}


def _dashboard_again(store: Path, logs: Path, shown: Mapping[str, Any], url: str) -> Child:
    """At the same port; its token is a new one unless a file holds it, so the address is said again."""
    child, now = start_dashboard(store, logs, {**shown, "port": urlsplit(url).port})
    print(f"dashboard  {now}", flush=True)
    return child


def _of_dashboard(values: dict[str, Any]) -> dict[str, Any]:
    names = ("host", "port", "log_level", "log_format", *(option.name for option in DASHBOARD_DOOR))
    return {name: values[name] for name in names if values[name] != ""}


def _is_said(option: Option, value: object) -> bool:
    """Whether a value has to be passed on; a switch that is off by default has no flag that says so."""
    return value not in ("", None) and not (value is False and option.default is False)


def _watch(server: Keeper, dashboard: Keeper, stopped: threading.Event, tail: AlertTail | None) -> int:
    """Waits and shows alerts; a dashboard that dies leaves the server, and so the runs, alone."""
    told = False
    known = {"server": server.child, "dashboard": dashboard.child}
    while server.running and not stopped.wait(0.5):
        up = dashboard.running
        for name, kept in (("server", server), ("dashboard", dashboard)):
            if kept.child is not known[name]:
                print(f"the {name} {kept.ended} and was started again; see {kept.child.log}", flush=True)
                known[name] = kept.child
        if tail is not None:
            tail.show()
        if not up and not told:
            told = True
            print(f"the dashboard {dashboard.child.ending()}; the server goes on. Start another: "
                  "concept-monitor dashboard", flush=True)  # fmt: skip
    if server.child.running:
        return 0
    print(f"the server {server.child.ending()}; see {server.child.log}. Training goes on without it; start it again "
          "with: concept-monitor up")  # fmt: skip
    return 1
