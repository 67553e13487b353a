"""What people do to alerts: acknowledge, silence, send dead letters again. Commands are plain JSON and idempotent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cm_server.duration import LONGEST
from cm_server.notices import DEAD, MATCHED, OPEN_STATES, Acknowledgement, Silence
from cm_server.stores.delivery_writer import DeliveryWriter

MOST_TEXT = 1000
_ID = re.compile(r"[A-Za-z0-9]{1,32}")


class OperationError(ValueError):
    """The command makes no sense; the message names value and cure."""


def apply(tables: DeliveryWriter, command: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Carries a command out.

    Args:
        tables: where it is written.
        command: ``do`` is one of ``ack``, ``silence``, ``unsilence``, ``replay``; the other keys are its own.
        now: seconds since 1970.

    Returns:
        What was done, as plain JSON.

    Raises:
        OperationError: it makes no sense.
    """
    operation = _OPERATIONS.get(str(command.get("do")))
    if operation is None:
        raise OperationError(f"no command {str(command.get('do'))[:40]!r}: choose one of {', '.join(_OPERATIONS)}")
    return operation(tables, command, now)


def _acknowledge(tables: DeliveryWriter, command: Mapping[str, Any], now: float) -> dict[str, Any]:
    key = command.get("alert")
    alert = tables.alert(key) if type(key) is int and abs(key) < 2**53 else None
    if alert is None:
        raise OperationError(f"there is no alert {str(key)[:40]}: concept-monitor alerts list shows them")
    if alert.state not in OPEN_STATES:
        raise OperationError(f"alert {alert.id} is {alert.state} already: only one that fires can be acknowledged")
    tables.acknowledge(Acknowledgement(alert.id, now, _text(command, "author"), _text(command, "note")))
    return {"alert": alert.id, "run": alert.run, "rule": alert.rule, "layer": alert.layer}


def _silence(tables: DeliveryWriter, command: Mapping[str, Any], now: float) -> dict[str, Any]:
    key, matchers, seconds = command.get("id"), command.get("matchers"), command.get("seconds")
    if not (isinstance(key, str) and _ID.fullmatch(key)):
        raise OperationError(f"the silence's id is {str(key)[:40]!r}: give 1 to 32 letters and digits")
    if not (isinstance(matchers, dict) and matchers and set(matchers) <= set(MATCHED)):
        raise OperationError(f"say what to silence: one or more of {', '.join(MATCHED)}")
    if not all(isinstance(v, str) and 0 < len(v) <= 200 for v in matchers.values()):
        raise OperationError("each of what is silenced is a text of 1 to 200 characters")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
        raise OperationError(f"a silence lasts more than nothing and at most a year, not {str(seconds)[:40]} s")
    made = Silence(key, matchers, now, now + seconds, _text(command, "author"), _text(command, "note"))
    tables.save_silence(made)
    return {"id": key, "matchers": dict(matchers), "expires": made.expires}


def _unsilence(tables: DeliveryWriter, command: Mapping[str, Any], now: float) -> dict[str, Any]:
    key = str(command.get("id"))
    found = [silence for silence in tables.silences(now) if silence.id == key]
    if not found:
        raise OperationError(f"there is no silence {key[:40]!r} in force: concept-monitor alerts silence list")
    old = found[0]
    tables.save_silence(Silence(old.id, old.matchers, old.created, now, old.author, old.note))
    return {"id": key}


def _replay(tables: DeliveryWriter, command: Mapping[str, Any], now: float) -> dict[str, Any]:
    wanted = command.get("keys")
    dead = [letter.key for letter in tables.letters(DEAD)]
    if wanted is None:
        return {"replayed": tables.requeue(dead, now)}
    if not (isinstance(wanted, list) and all(isinstance(k, str) and len(k) >= 4 for k in wanted)):
        raise OperationError("name dead letters by four or more characters of their keys")
    keys = []
    for start in wanted:
        found = [key for key in dead if key.startswith(start)]
        if len(found) != 1:
            problem = "more than one dead letter begins" if found else "no dead letter begins"
            raise OperationError(f"{problem} with {start[:40]!r}: concept-monitor alerts dead-letters list shows them")
        keys += found
    return {"replayed": tables.requeue(keys, now)}


def _text(command: Mapping[str, Any], name: str) -> str:
    value = command.get(name, "")
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise OperationError(f"{name} is not a text of at most {MOST_TEXT} characters")
    return value


_OPERATIONS: dict[str, Callable[[DeliveryWriter, Mapping[str, Any], float], dict[str, Any]]] = {
    "ack": _acknowledge,
    "silence": _silence,
    "unsilence": _unsilence,
    "replay": _replay,
}
