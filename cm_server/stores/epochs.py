"""The training processes of a run in the store: who began when, and which steps each told of."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from cm_server.stores import schema
from cm_server.stores.lineage import Epoch, cuts

_T = schema.epochs.c


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


def note(connection: sa.Connection, run: str, epoch: str, low: int, high: int) -> None:
    """A process tells of steps ``low`` to ``high``; the run's revision grows where that changes its past."""
    known = {other.epoch: other for other in read(connection, run)}
    mine = known.get(epoch)
    if mine is None:
        return
    if mine.first_step is None:
        low = min(low, _start_step(connection, run, epoch, low))
    first = low if mine.first_step is None else min(low, mine.first_step)
    last = high if mine.last_step is None else max(high, mine.last_step)
    if (first, last) != (mine.first_step, mine.last_step):
        where = sa.and_(_T.run == run, _T.epoch == epoch)
        connection.execute(sa.update(schema.epochs).where(where).values(first_step=first, last_step=last))
    others = [other for other in known.values() if other.epoch != epoch and other.last_step is not None]
    newer = any((other.begun, other.epoch) > (mine.begun, mine.epoch) for other in others)
    if newer or (first != mine.first_step and any((other.last_step or 0) >= first for other in others)):
        runs = schema.runs
        connection.execute(sa.update(runs).where(runs.c.run == run).values(revision=runs.c.revision + 1))


def end(connection: sa.Connection, run: str, epoch: str, state: str) -> None:
    """Records how a process ended."""
    where = sa.and_(_T.run == run, _T.epoch == epoch)
    connection.execute(sa.update(schema.epochs).where(where).values(ended=state))


def read(connection: sa.Connection, run: str) -> list[Epoch]:
    """The processes of a run, oldest first."""
    columns = (_T.epoch, _T.begun, _T.first_step, _T.last_step, _T.ended)
    rows = connection.execute(sa.select(*columns).where(_T.run == run).order_by(_T.begun, _T.epoch))
    return [Epoch(*row) for row in rows]


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
        connection.execute(insert(schema.epochs).values(**dict(zip(names, row, strict=True))).on_conflict_do_nothing())
