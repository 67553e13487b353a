"""The training processes of a run in the store: who began when, and which steps each told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.dialect import insert, plainly
from cm_server.stores.lineage import Epoch, cuts

_T = schema.epochs.c
_AT_ONCE = 500
"""Runs in one query: SQLite bounds the number of variables."""
_MOVE = "UPDATE epochs SET first_step = ?, last_step = ? WHERE run = ? AND epoch = ?"
"""In the driver's own words, as what is asked with every capture: compiling would take ten times as long."""


def begin(connection: sa.Connection, run: str, epoch: str, begun: float, start_step: int | None, late: bool) -> None:
    """Records a process once.

    Args:
        connection: within a transaction.
        run, epoch: who.
        begun: when it began, by its own clock.
        start_step: where it goes on from a checkpoint, if it said so.
        late: it is over, and what it left is sent now. A process that is alive is the newest, whatever its clock says.
    """
    known = read(connection, run)
    if not known:
        _adopt(connection, run, epoch)
        known = read(connection, run)
    if any(other.epoch == epoch for other in known):
        return
    if not late:
        begun = max([begun, *(other.begun + 1e-3 for other in known)])
    row = {"run": run, "epoch": epoch, "begun": begun, "start_step": start_step, "ended": ""}
    connection.execute(sa.insert(schema.epochs).values(**row))


Told = tuple[str, str, int, int]
"""Run, process, and the lowest and highest step that it tells of."""


def note(connection: sa.Connection, run: str, epoch: str, low: int, high: int) -> None:
    """A process tells of steps ``low`` to ``high``; the run's revision grows where that changes its past."""
    note_all(connection, [(run, epoch, low, high)])


def note_all(connection: sa.Connection, told: Sequence[Told]) -> None:
    """`note` of several processes, with few statements however many they are."""
    known = _of_runs(connection, sorted({run for run, *_ in told}))
    moved, changed = [], set()
    for run, epoch, low, high in told:
        mine = next((other for other in known[run] if other.epoch == epoch), None)
        if mine is None:
            continue
        if mine.first_step is None:
            low = min(low, _start_step(connection, run, epoch, low))
        first = low if mine.first_step is None else min(low, mine.first_step)
        last = high if mine.last_step is None else max(high, mine.last_step)
        if (first, last) != (mine.first_step, mine.last_step):
            moved.append((first, last, run, epoch))
        if _changes_past(mine, first, known[run]):
            changed.add(run)
        known[run] = [replace(o, first_step=first, last_step=last) if o is mine else o for o in known[run]]
    if moved:
        plainly(connection, _MOVE, moved)
    for run in sorted(changed):
        runs = schema.runs
        connection.execute(sa.update(runs).where(runs.c.run == run).values(revision=runs.c.revision + 1))


def _changes_past(mine: Epoch, first: int, of_run: Sequence[Epoch]) -> bool:
    """Whether what a process tells changes what was read of the run before."""
    others = [other for other in of_run if other.epoch != mine.epoch and other.last_step is not None]
    newer = any((other.begun, other.epoch) > (mine.begun, mine.epoch) for other in others)
    return newer or (first != mine.first_step and any((other.last_step or 0) >= first for other in others))


def end(connection: sa.Connection, run: str, epoch: str, state: str) -> None:
    """Records how a process ended."""
    where = sa.and_(_T.run == run, _T.epoch == epoch)
    connection.execute(sa.update(schema.epochs).where(where).values(ended=state))


def read(connection: sa.Connection, run: str) -> list[Epoch]:
    """The processes of a run, oldest first."""
    return _of_runs(connection, [run])[run]


def _of_runs(connection: sa.Connection, runs: Sequence[str]) -> dict[str, list[Epoch]]:
    """The processes of several runs, each run's oldest first."""
    found: dict[str, list[Epoch]] = {run: [] for run in runs}
    for start in range(0, len(runs), _AT_ONCE):
        some = tuple(runs[start : start + _AT_ONCE])
        for run, *about in plainly(connection, _of_so_many(len(some)), some):
            found[run].append(Epoch(*about))
    return found


@lru_cache(maxsize=_AT_ONCE)
def _of_so_many(count: int) -> str:
    chosen = f"({', '.join('?' * count)})"
    return f"""SELECT run, epoch, begun, first_step, last_step, ended FROM epochs WHERE run IN {chosen}
    ORDER BY begun, epoch"""


def current(connection: sa.Connection, run: str, epoch: sa.ColumnElement, step: sa.ColumnElement) -> sa.ColumnElement:
    """A condition that leaves out what newer processes superseded.

    Args:
        connection: to read the run's processes.
        run: run id.
        epoch, step: the columns to look at.
    """
    gone = [sa.and_(epoch == name, step >= until) for name, until in cuts(read(connection, run)).items()]
    return sa.not_(sa.or_(*gone)) if gone else sa.true()


def _start_step(connection: sa.Connection, run: str, epoch: str, otherwise: int) -> int:
    told = connection.execute(sa.select(_T.start_step).where(_T.run == run, _T.epoch == epoch)).scalar()
    return otherwise if told is None else int(told)


def _adopt(connection: sa.Connection, run: str, but: str) -> None:
    """Processes of a run that an earlier version stored without this table."""
    table = schema.snapshots.c
    query = sa.select(
        table.run, table.epoch, sa.func.min(table.captured_at), sa.func.min(table.step), sa.func.max(table.step)
    ).where(table.run == run, table.epoch != but)
    for row in connection.execute(query.group_by(table.run, table.epoch)).all():
        names = ("run", "epoch", "begun", "first_step", "last_step")
        statement = insert(connection, schema.epochs).values(**dict(zip(names, row, strict=True)))
        connection.execute(statement.on_conflict_do_nothing())
