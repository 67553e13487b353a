"""How often a channel hears of what the rules found, by the server's own delivery, which waits for nothing here."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cm_server.core.alerting import Transition
from cm_server.core.delivery import Delivery, Route, Timing
from cm_server.report import Alert
from cm_server.rules.replay import Event

_SECONDS = 60.0
"""Between snapshots."""
_AT_ONCE = Timing(group_wait=0.0, group_interval=0.0, repeat=math.inf)


def notices(events: Iterable[Event]) -> list[int]:
    """The snapshots at which people (a channel that keeps no list) are told something, with repetitions left out."""
    delivery, told, ids = Delivery(_AT_ONCE, [Route("people")]), list[int](), dict[str, int]()
    for number, event in enumerate(events, 1):
        change, now = event.transition, event.index * _SECONDS
        if change.state == "pending":
            continue
        delivery.change(_alert(ids.setdefault(change.rule, number), event.layer, change, now))
        if change.state in ("resolved", "ended"):
            del ids[change.rule]
        for notice in delivery.due(now, lambda _: True):
            delivery.record(notice)
            delivery.delivered(notice)
            told.append(event.index)
    return told


def _alert(key: int, layer: str, change: Transition, now: float) -> Alert:
    found = change.finding
    said = {"value": found.value, "message": found.message, "details": found.details}
    return Alert(key, "run", layer, change.rule, found.severity, change.state, change.step, now, now, **said)
