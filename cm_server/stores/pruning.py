"""Giving up the arrays of snapshots by the rules of `core.retention`, with what the store knows of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from cm_server.core.retention import Kept, Retention, given_up
from cm_server.stores import epochs, schema
from cm_server.stores.lineage import cuts, holds


@dataclass(frozen=True)
class Doomed:
    """Snapshots that lose their arrays: sequence numbers, and bytes."""

    sequences: list[int]
    size: int


def doomed(connection: sa.Connection, run: str, retention: Retention) -> Doomed:
    """Which snapshots of a run lose their arrays under these rules.

    What a resumed process superseded is shown nowhere, so it goes first; an alert pins the snapshot that it began at.
    """
    if retention.keeps_all:
        return Doomed([], 0)
    pinned = _pinned(connection, run)
    cut = cuts(epochs.read(connection, run))
    rows = list(_snapshots(connection, run))
    gone = [(sequence, size) for sequence, step, epoch, size in rows if size and not holds(cut, epoch, step)]
    current = [row for row in rows if holds(cut, row[2], row[1])]
    chosen = given_up([Kept(size, step in pinned) for _, step, _, size in current], retention)
    gone += [(current[index][0], current[index][3]) for index in chosen]
    return Doomed([sequence for sequence, _ in gone], sum(size for _, size in gone))


def _snapshots(connection: sa.Connection, run: str) -> Iterator[tuple[int, int, str, int]]:
    """Sequence number, step, epoch, bytes of arrays, by step."""
    when, reports = schema.snapshots.c, schema.layer_reports.c
    sizes = sa.select(reports.sequence, sa.func.sum(reports.length)).where(reports.run == run)
    by_sequence = {int(key): int(size) for key, size in connection.execute(sizes.group_by(reports.sequence))}
    query = sa.select(when.sequence, when.step, when.epoch).where(when.run == run).order_by(when.step, when.sequence)
    for sequence, step, epoch in connection.execute(query):
        yield sequence, step, epoch, by_sequence.get(sequence, 0)


def _pinned(connection: sa.Connection, run: str) -> set[int]:
    alerts = schema.alerts.c
    return {int(step) for step in connection.execute(sa.select(alerts.step).where(alerts.run == run)).scalars()}
