"""Figures: logged scalars, the client's own statistics, and what it had to drop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cm_client.protocol.messages import (
    CaptureAck,
    Dropped,
    Heartbeat,
    ImagesWanted,
    Pong,
    ScalarAck,
    ScalarBatch,
    Unknown,
)
from cm_server.counter import Counter
from cm_server.sessions import Session

MOST_UNACKED = 64


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
        """Captures that will never come; a client of version 1.0 does not say which, and wants no answer."""
        numbers = message.captures if len(message.captures) == len(message.rows) else [None] * len(message.rows)
        for row, number in zip(message.rows, numbers, strict=True):
            if _is_drop(row) and type(number) in (int, type(None)):
                self._gap(session, row[0], row[1][:200], number)
        self._counter.publisher.publish("gap", session.run)

    def _gap(self, session: Session, step: int, reason: str, number: int | None) -> None:
        writer = self._counter.writer
        if number is None:
            writer.add_gap(session.run, max(step, 0), reason, session.epoch)
            return
        session.drop_capture(number)
        if not writer.has_capture(session.run, session.epoch, number):
            writer.add_gap(session.run, max(step, 0), reason, session.epoch, number)
        self._counter.reply(session, CaptureAck(number, "dropped"))

    def heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        """The client is alive."""
        if heartbeat.stats and session.leads:
            self._counter.writer.save_run(session.run, stats=flat(heartbeat.stats))
        self._counter.reply(session, Pong())
        self._ack_again(session, heartbeat.unacked)

    def _ack_again(self, session: Session, numbers: list[Any]) -> None:
        """Acks may get lost, and so may captures where a connection broke and neither side noticed."""
        for number in numbers[:MOST_UNACKED]:
            if type(number) is not int or number in session.pending:
                continue
            if number in session.samples:  # its rows may be here, and its images are on their way
                if (rows := session.samples[number].stalled()) is not None:
                    self._counter.reply(session, ImagesWanted(number, rows) if rows else Unknown())
                continue
            if not self._counter.writer.has_capture(session.run, session.epoch, number):
                self._counter.reply(session, Unknown())
                return
            self._counter.reply(session, CaptureAck(number, "duplicate"))


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """A client's map as stored: plain values under short keys, others as text; NaN and infinity are not JSON."""
    found: dict[str, Any] = {}
    for key, value in list(values.items())[:200]:
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        plain = value is None or isinstance(value, bool | int | float)
        found[str(key)[:100]] = value if plain else str(value)[:1000]
    return found


def _is_drop(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and type(row[0]) is int and isinstance(row[1], str)


def _scalar_rows(rows: list[list[Any]]) -> Iterator[tuple[int, int, float, dict[str, float | None]]]:
    """Well-formed rows; others are skipped."""
    for row in rows:
        if not (isinstance(row, list) and len(row) == 4 and isinstance(row[3], dict)):
            continue
        if type(row[0]) is not int or type(row[1]) is not int:
            continue
        values = {
            str(name)[:100]: float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
            for name, value in row[3].items()
        }
        at = float(row[2]) if isinstance(row[2], (int, float)) else 0.0
        yield row[0], row[1], at if math.isfinite(at) else 0.0, values
