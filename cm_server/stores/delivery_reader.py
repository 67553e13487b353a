"""Reading what was told to whom: silences, acknowledgements, notices on their way and dead ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from cm_server.notices import OPEN_STATES, Acknowledgement, Item, Letter, Notice, Silence, Told
from cm_server.report import Alert
from cm_server.stores import schema

Connect = Callable[[], AbstractContextManager[sa.Connection]]


class DeliveryReader:
    """Read-only view of the delivery's tables.

    Args:
        connect: `StoreReader.connection`.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def silences(self, since: float = 0.0) -> list[Silence]:
        """Silences that end after ``since``, the newest last."""
        table = schema.silences
        rows = self._rows(sa.select(table).where(table.c.expires > since).order_by(table.c.created, table.c.id))
        return [Silence(**row) for row in rows]

    def acknowledgements(self) -> dict[int, Acknowledgement]:
        """Acknowledgements by alert id."""
        return {row["alert"]: Acknowledgement(**row) for row in self._rows(sa.select(schema.acknowledgements))}

    def letters(self, *states: str) -> list[Letter]:
        """Notices in any of these states, oldest first."""
        table = schema.notices
        query = sa.select(table).where(table.c.state.in_(states)).order_by(table.c.queued, table.c.key)
        return [_letter(row) for row in self._rows(query)]

    def told(self, alerts: Iterable[int]) -> dict[tuple[str, int], Told]:
        """What the channels know of some alerts."""
        wanted = set(alerts)
        found = {}
        for row in self._rows(sa.select(schema.told)):
            if row["alert"] in wanted:
                channel, alert = row.pop("channel"), row.pop("alert")
                found[channel, alert] = Told(**row)
        return found

    def current_alerts(self, since: float) -> list[Alert]:
        """Alerts that are open, and those that changed after ``since``, oldest first."""
        table = schema.alerts
        wanted = table.c.state.in_(OPEN_STATES) | (table.c.updated > since)
        return [alert_of(row) for row in self._rows(sa.select(table).where(wanted).order_by(table.c.id))]

    def alert(self, key: int) -> Alert | None:
        """One alert, or None."""
        rows = self._rows(sa.select(schema.alerts).where(schema.alerts.c.id == key))
        return alert_of(rows[0]) if rows else None

    def _rows(self, query: sa.Select) -> list[dict[str, Any]]:
        with self._connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def alert_of(row: Mapping[str, Any]) -> Alert:
    """An alert from its row; None stands for a value that is no number."""
    return Alert(**{**row, "value": math.nan if row["value"] is None else float(row["value"])})


def _letter(row: dict[str, Any]) -> Letter:
    items = tuple(Item(alert_of(i["alert"]), i["status"], i["previous"]) for i in row.pop("items"))
    about = {name: row.pop(name) for name in ("key", "channel", "run", "created")}
    return Letter(Notice(**about, items=items), **row)
