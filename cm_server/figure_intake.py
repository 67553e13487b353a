"""Figures: logged scalars, the client's own statistics, and what it had to drop."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
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
from cm_server.fault_points import reach
from cm_server.notifiers.redaction import HIDDEN
from cm_server.sessions import Session
from cm_server.stores.errors import why_unwritable

logger = logging.getLogger(__name__)

MOST_UNACKED = 64
_SECRET_NAME = re.compile(
    r"(^|[_.-])(token|secret|passw(or)?d|passphrase|(api|access|private)[_-]?key|credentials?)($|[_.-])", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"[^\s<>]{8,}")
Row = tuple[int, int, float, dict[str, float | None]]
"""Number, step, time and values by name."""


@dataclass
class _Waiting:
    """Rows of one process that wait to be stored, and the connections that they came by."""

    session: Session
    rows: list[Row] = field(default_factory=list)
    senders: set[bytes] = field(default_factory=set)


class FigureIntake:
    """Takes `ScalarBatch`, `Heartbeat` and `Dropped`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._stats: dict[str, dict[str, Any]] = {}

    def scalars(self, session: Session, batch: ScalarBatch) -> None:
        """Rows of logged quantities; they are stored and acknowledged by `flush`, all that came together in one go."""
        rows = list(_scalar_rows(batch.rows))
        if rows:
            waiting = self._waiting.setdefault((session.run, session.epoch), _Waiting(session))
            waiting.rows.extend(rows)
            waiting.senders.add(session.identity)

    def flush(self) -> None:
        """Stores what waits, in one transaction, and acknowledges it.

        Where a row of one run cannot be stored, the others are, and that one's client sends its rows again.
        """
        waiting, self._waiting = list(self._waiting.values()), {}
        stats, self._stats = self._stats, {}
        if not waiting and not stats:
            return
        try:
            self._store(waiting, stats)
        except Exception as error:
            if why_unwritable(error):
                raise
            for one in waiting:
                try:
                    self._store([one], {})
                except Exception:
                    logger.exception("logged quantities of run %s could not be stored", one.session.run)

    def _store(self, waiting: list[_Waiting], stats: Mapping[str, dict[str, Any]]) -> None:
        counter = self._counter
        with counter.writer.together():
            counter.writer.add_scalars_of([(one.session.run, one.session.epoch, one.rows) for one in waiting])
            for run, values in stats.items():
                counter.writer.save_run(run, stats=values)
        counter.metrics.scalar_rows.inc(sum(len(one.rows) for one in waiting))
        reach("scalars-committed")
        for one in waiting:
            session = one.session
            session.step = max(session.step, one.rows[-1][1])
            ack = ScalarAck(max(row[0] for row in one.rows))
            for identity in one.senders:  # one of them may be a connection that nobody hears on any more
                counter.send(identity, ack, session.run, session.epoch)
            counter.publisher.publish("scalars", session.run, session.step)

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
            self._counter.metrics.captures.labels("dropped").inc()
            writer.add_gap(session.run, max(step, 0), reason, session.epoch)
            return
        session.drop_capture(number)
        if not writer.has_capture(session.run, session.epoch, number):
            self._counter.metrics.captures.labels("dropped").inc()
            writer.add_gap(session.run, max(step, 0), reason, session.epoch, number)
        self._counter.reply(session, CaptureAck(number, "dropped"))

    def heartbeat(self, session: Session, heartbeat: Heartbeat) -> None:
        """The client is alive; what it says of itself is stored with the next `flush`."""
        if heartbeat.stats and session.leads:
            self._stats[session.run] = flat(heartbeat.stats)
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
    """A client's map as stored: plain values under short keys, others as text; NaN and infinity are not JSON.

    What looks like a secret by its name and its value is not kept: a configuration is shown to everyone who may read.

    >>> flat({"lr": 0.1, "hub": {"API-KEY": "k-0123456"}})
    {'lr': 0.1, 'hub': "{'API-KEY': '***'}"}
    >>> flat({"hf_token": "hf_AbCdEfGhIjKl", "eos_token": "<|endoftext|>", "tokenizer": "bert-base-uncased"})
    {'hf_token': '***', 'eos_token': '<|endoftext|>', 'tokenizer': 'bert-base-uncased'}
    """
    found: dict[str, Any] = {}
    for key, value in list(values.items())[:200]:
        shown = _shown(str(key), value)
        plain = shown is None or isinstance(shown, bool | int | float)
        found[str(key)[:100]] = shown if plain else str(shown)[:1000]
    return found


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _shown(str(name), one) for name, one in value.items()}
    if isinstance(value, float) and not isfinite(value):
        return None
    if not isinstance(value, str):
        return value
    hidden = _SECRET_NAME.search(key) and _SECRET_VALUE.fullmatch(value)
    return HIDDEN if hidden else value


def _is_drop(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and type(row[0]) is int and isinstance(row[1], str)


def _scalar_rows(rows: list[list[Any]]) -> Iterator[Row]:
    """Well-formed rows; others are skipped."""
    for row in rows:
        if not (isinstance(row, list) and len(row) == 4 and isinstance(row[3], dict)):
            continue
        if not (_is_count(row[0]) and _is_count(row[1])):
            continue
        values = {name[:100]: _number(value) for name, value in row[3].items()}
        yield row[0], row[1], _number(row[2]) or 0.0, values


def _number(value: Any) -> float | None:
    """A finite number as such, True and False as 1 and 0, anything else as None."""
    if type(value) is not float and not isinstance(value, int):
        return None
    return float(value) if isfinite(value) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and -1 <= value < 2**53
