"""Figures: logged scalars, the client's own statistics, and what it had to drop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from cm_client.protocol.messages import Dropped, Heartbeat, Pong, ScalarAck, ScalarBatch
from cm_server.counter import Counter
from cm_server.sessions import Session


class FigureIntake:
    """Takes `ScalarBatch`, `Heartbeat` and `Dropped`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def scalars(self, session: Session, batch: ScalarBatch) -> None:
        """Rows of logged quantities."""
        rows = list(_scalar_rows(batch.rows))
        self._counter.writer.add_scalars(session.run, session.epoch, rows)
        if rows:
            session.step = max(session.step, rows[-1][1])
            self._counter.reply(session, ScalarAck(max(row[0] for row in rows)))
            self._counter.publisher.publish("scalars", session.run, session.step)

    def dropped(self, session: Session, message: Dropped) -> None:
        """Captures that will never come."""
        for row in message.rows:
            if len(row) == 2 and type(row[0]) is int and isinstance(row[1], str):
                self._counter.writer.add_gap(session.run, row[0], row[1][:200])
        self._counter.publisher.publish("gap", session.run)

    def heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        """The client is alive."""
        self._counter.writer.save_run(session.run, stats=flat(heartbeat.stats))
        self._counter.reply(session, Pong())


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """A client's map as stored: plain values under short keys; NaN and infinity are not JSON."""
    found: dict[str, Any] = {}
    for key, value in list(values.items())[:200]:
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        with suppress(TypeError):
            found[str(key)[:100]] = value[:1000] if isinstance(value, str) else value
    return found


def _scalar_rows(rows: list[list[Any]]) -> Iterator[tuple[int, int, float, dict[str, float | None]]]:
    """Well-formed rows; others are skipped."""
    for row in rows:
        if len(row) != 4 or type(row[0]) is not int or type(row[1]) is not int or not isinstance(row[3], dict):
            continue
        values = {
            str(name)[:100]: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
            for name, value in row[3].items()
        }
        yield row[0], row[1], float(row[2]) if isinstance(row[2], (int, float)) else 0.0, values
