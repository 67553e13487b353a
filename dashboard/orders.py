"""What people order on the Alerts page, and how it reaches the server: the dashboard itself writes nothing.

A command goes through the store's control folder (`cm_server.control`), as from the command line; the server carries
it out and answers.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm_server import control
from cm_server.events import read_discovery
from cm_server.report import Alert

PATIENCE_SECONDS = 5.0
DURATIONS = {"30 minutes": 1800, "2 hours": 7200, "8 hours": 28800, "1 day": 86400, "1 week": 604800}
SCOPES = {
    "alert": "this rule in this layer of this run",
    "rule": "this rule in the whole run",
    "run": "everything of this run",
    "everywhere": "this rule in all runs",
}
NO_SERVER = (
    "No server runs on this store, so nothing was changed: the dashboard only reads. Start one (concept-monitor up), "
    "or use concept-monitor alerts {} on the store's machine."
)


class OrderError(RuntimeError):
    """The order was not carried out; the message says why, and what to do."""


def acknowledge(alert: int, author: str, note: str) -> dict[str, Any]:
    """The command that says somebody has seen an alert."""
    return {"do": "ack", "alert": alert, "author": author.strip(), "note": note.strip()}


def silence(alert: Alert, scope: str, seconds: float, author: str, note: str) -> dict[str, Any]:
    """The command that keeps an alert's like from being sent for a while.

    Args:
        alert: the alert.
        scope: one of ``SCOPES``: what counts as its like.
        seconds: for how long.
        author, note: who wants it, and why.
    """
    command = {"do": "silence", "id": uuid.uuid4().hex[:8], "matchers": matchers(alert, scope), "seconds": seconds}
    return command | {"author": author.strip(), "note": note.strip()}


def matchers(alert: Alert, scope: str) -> dict[str, str]:
    """What a silence of this scope matches.

    Raises:
        OrderError: there is no such scope.
    """
    fields = {"alert": ("run", "rule", "layer"), "rule": ("run", "rule"), "run": ("run",), "everywhere": ("rule",)}
    if scope not in fields:
        raise OrderError(f"no scope {scope!r}: choose one of {', '.join(SCOPES)}")
    said = {name: str(getattr(alert, name)) for name in fields[scope]}
    return {name: value for name, value in said.items() if value}  # an alert on the run as a whole has no layer


def unsilence(key: str) -> dict[str, Any]:
    """The command that ends a silence."""
    return {"do": "unsilence", "id": key}


def replay(keys: list[str] | None = None) -> dict[str, Any]:
    """The command that tries given-up notices again; None: all of them."""
    return {"do": "replay", "keys": keys}


def carry_out(store: Path, command: Mapping[str, Any]) -> dict[str, Any]:
    """Has the server carry a command out.

    Returns:
        The server's answer.

    Raises:
        OrderError: no server, no answer, or a refusal, in words.
    """
    if not server_runs(store):
        raise OrderError(NO_SERVER.format(_named(command)))
    try:
        return control.request(store, command, PATIENCE_SECONDS)
    except (control.ControlError, OSError) as error:
        raise OrderError(f"Not done: {error}.") from None


def server_runs(store: Path) -> bool:
    """Whether the process that last wrote its addresses into the store is alive (on this machine)."""
    found = read_discovery(store)
    pid = found.get("pid") if found else None
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it lives, as another user
    return True


def _named(command: Mapping[str, Any]) -> str:
    return {"ack": "ack", "replay": "dead-letters replay"}.get(str(command.get("do")), "silence")
