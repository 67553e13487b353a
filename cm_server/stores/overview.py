"""Every run in one line: what lists show, without reading any run's whole series."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from cm_server.report import RunInfo
from cm_server.stores import epochs, schema
from cm_server.stores.reader import StoreReader
from cm_server.stores.removal import SEGMENTS


@dataclass(frozen=True)
class RunLine:
    """A run's figures.

    Attributes:
        info: the run.
        layer: its deepest layer; empty while it has none.
        snapshots: how many hold (what a resumed process superseded is not counted).
        last_step: of the newest; None while there is none.
        first, last: d_anchor of the deepest layer in the first and the newest, None where there is no number.
        firing: alerts that fire.
        size: bytes of its arrays on the disk.
    """

    info: RunInfo
    layer: str
    snapshots: int
    last_step: int | None
    first: float | None
    last: float | None
    firing: int
    size: int


def run_lines(reader: StoreReader, runs: Iterable[RunInfo] | None = None) -> list[RunLine]:
    """The lines of some runs, of all if None, newest first."""
    with reader.connection() as connection:
        counts, firing, deepest = _counts(connection), _firing(connection), _deepest(connection)
        table = schema.epochs.c
        several = sa.select(table.run).group_by(table.run).having(sa.func.count() > 1)
        resumed = set(connection.execute(several).scalars())
        lines = []
        for info in reader.runs() if runs is None else runs:
            layer, first, last = deepest.get(info.run, ("", None, None))
            number, step = counts.get(info.run, (0, None))
            if info.run in resumed:  # what was superseded does not count
                number, step = _held(connection, info.run)
                first, last = (_d_anchor(connection, info.run, layer, newest) for newest in (False, True))
            on_disk = size_of(reader.directory, info.run)
            lines.append(RunLine(info, layer, number, step, first, last, firing.get(info.run, 0), on_disk))
    return lines


def size_of(store: Path, run: str) -> int:
    """Bytes of a run's arrays on the disk, dead ones included."""
    try:
        with os.scandir(store / SEGMENTS / run) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except OSError:
        return 0


def _counts(connection: sa.Connection) -> dict[str, tuple[int, int | None]]:
    table = schema.snapshots.c
    query = sa.select(table.run, sa.func.count(), sa.func.max(table.step)).group_by(table.run)
    return {run: (int(count), int(step)) for run, count, step in connection.execute(query)}


def _held(connection: sa.Connection, run: str) -> tuple[int, int | None]:
    table = schema.snapshots.c
    query = sa.select(sa.func.count(), sa.func.max(table.step)).where(table.run == run)
    count, step = connection.execute(query.where(epochs.current(connection, run, table.epoch, table.step))).one()
    return int(count), step


def _firing(connection: sa.Connection) -> dict[str, int]:
    table = schema.alerts.c
    query = sa.select(table.run, sa.func.count()).where(table.state == "firing").group_by(table.run)
    return {run: int(count) for run, count in connection.execute(query)}


def _deepest(connection: sa.Connection) -> dict[str, tuple[str, float | None, float | None]]:
    """By run its deepest layer, and d_anchor there in the run's first and newest snapshot; all in one query."""
    layers, reports = schema.layers, schema.layer_reports.c
    others = layers.alias()
    deepest = sa.select(sa.func.max(others.c.position)).where(others.c.run == layers.c.run).scalar_subquery()
    value = reports.summary["d_anchor"].as_float()
    of_layer = sa.select(value).where(reports.run == layers.c.run, reports.layer == layers.c.layer).limit(1)
    first = of_layer.order_by(reports.step, reports.sequence).scalar_subquery()
    last = of_layer.order_by(reports.step.desc(), reports.sequence.desc()).scalar_subquery()
    query = sa.select(layers.c.run, layers.c.layer, first, last).where(layers.c.position == deepest)
    return {run: (layer, *ends) for run, layer, *ends in connection.execute(query)}


def _d_anchor(connection: sa.Connection, run: str, layer: str, newest: bool) -> float | None:
    table, when = schema.layer_reports.c, schema.snapshots.c
    order = (table.step.desc(), table.sequence.desc()) if newest else (table.step, table.sequence)
    query = sa.select(table.summary).join(schema.snapshots, when.sequence == table.sequence)
    query = query.where(table.run == run, table.layer == layer)
    query = query.where(epochs.current(connection, run, when.epoch, when.step))
    summary = connection.execute(query.order_by(*order).limit(1)).scalar()
    return summary["d_anchor"] if summary else None
