"""Adding and removing anchors: the server places the word, then keeps it. The dashboard itself writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm_server import control
from dashboard.asking import Answer
from dashboard.orders import PATIENCE_SECONDS, OrderError

NO_SERVER = (
    "No server runs on this store, so nothing was changed: the dashboard only reads. Start one (concept-monitor up)."
)


def addition(run: str, wish: str, answer: Answer) -> dict[str, Any]:
    """The command that adds a word where the server has placed it."""
    return {
        "do": "anchor",
        "run": run,
        "word": answer.text,
        "wish": wish,
        "vector": answer.vector.tolist(),
        "place": list(answer.place),
        "encoder": answer.fingerprint,
    }


def removal(run: str, word: str) -> dict[str, Any]:
    """The command that takes an anchor away."""
    return {"do": "unanchor", "run": run, "word": word}


def carry_out(store: Path, command: Mapping[str, Any], server_lives: bool) -> None:
    """Has the server carry a command out.

    Raises:
        OrderError: no server, no answer, or a refusal, in words.
    """
    if not server_lives:
        raise OrderError(NO_SERVER)
    try:
        control.request(store, command, PATIENCE_SECONDS)
    except (control.ControlError, OSError) as error:
        raise OrderError(f"Not done: {error}.") from None
