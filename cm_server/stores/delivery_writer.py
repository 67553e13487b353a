"""Writing what was told to whom. Each method is one transaction: all of it is there after a crash, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from cm_server.notices import DEAD, DELIVERED, OPEN_STATES, QUEUED, Acknowledgement, Item, Letter, Silence, Told
from cm_server.stores import schema
from cm_server.stores.delivery_reader import Connect, DeliveryReader
from cm_server.stores.dialect import insert
from cm_server.stores.finite import finite


class DeliveryWriter(DeliveryReader):
    """The delivery's tables, for the one process that writes.

    Args:
        transaction: `StoreWriter.transaction`.
    """

    def __init__(self, transaction: Connect) -> None:
        super().__init__(transaction)
        self._begin = transaction

    def write_down(self, letter: Letter, told: Mapping[int, Told], displaced: Letter | None) -> None:
        """A new letter, what its channel counts as told by it, and the one that had to make room for it."""
        rows = [{"channel": letter.notice.channel, "alert": alert} | asdict(one) for alert, one in told.items()]
        with self._begin() as connection:
            connection.execute(insert(connection, schema.notices).values(**_row(letter)).on_conflict_do_nothing())
            for row in rows:
                connection.execute(_upsert(connection, schema.told, row, ("channel", "alert")))
            if displaced is not None:
                _update(connection, displaced)

    def save_letter(self, letter: Letter, delivered: Iterable[int] = ()) -> None:
        """A letter after an attempt; the channel has now heard of the ``delivered`` alerts."""
        table = schema.told
        with self._begin() as connection:
            _update(connection, letter)
            for alert in delivered:
                about = (table.c.channel == letter.notice.channel) & (table.c.alert == alert)
                connection.execute(sa.update(table).where(about).values(delivered=True))

    def requeue(self, keys: Iterable[str], now: float) -> list[str]:
        """Puts dead letters back into the queue, as if they were new.

        Returns:
            The keys of those that were dead.
        """
        table, done = schema.notices, []
        fresh = {"state": QUEUED, "attempts": 0, "next_at": 0.0, "queued": now, "error": ""}
        with self._begin() as connection:
            for key in keys:
                dead = (table.c.key == key) & (table.c.state == DEAD)
                if connection.execute(sa.update(table).where(dead).values(**fresh)).rowcount:
                    done.append(key)
        return done

    def acknowledge(self, ack: Acknowledgement) -> None:
        """Somebody has seen an alert; a later word replaces the earlier."""
        with self._begin() as connection:
            connection.execute(_upsert(connection, schema.acknowledgements, asdict(ack), ("alert",)))

    def save_silence(self, silence: Silence) -> None:
        """Adds a silence, or changes the one with its id."""
        with self._begin() as connection:
            connection.execute(_upsert(connection, schema.silences, asdict(silence), ("id",)))

    def prune(self, before: float) -> None:
        """Forgets letters, told records and silences that were over before a time; dead letters stay as long."""
        notices, told, alerts = schema.notices, schema.told, schema.alerts
        still_open = sa.select(alerts.c.id).where(alerts.c.state.in_(OPEN_STATES))
        with self._begin() as connection:
            old = notices.c.state.in_((DELIVERED, DEAD)) & (notices.c.queued < before)
            connection.execute(sa.delete(notices).where(old))
            connection.execute(sa.delete(told).where((told.c.at < before) & told.c.alert.not_in(still_open)))
            connection.execute(sa.delete(schema.silences).where(schema.silences.c.expires < before))


def _row(letter: Letter) -> dict[str, Any]:
    row = asdict(letter)
    notice = row.pop("notice")
    notice["items"] = [_item_row(item) for item in letter.notice.items]
    return notice | row


def _item_row(item: Item) -> dict[str, Any]:
    return {"alert": finite(asdict(item.alert)), "status": item.status, "previous": item.previous}


def _update(connection: sa.Connection, letter: Letter) -> None:
    changing = {name: getattr(letter, name) for name in ("queued", "state", "attempts", "next_at", "error")}
    connection.execute(sa.update(schema.notices).where(schema.notices.c.key == letter.key).values(**changing))


def _upsert(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], key: tuple[str, ...]) -> sa.Insert:
    statement = insert(connection, table).values(**row)
    return statement.on_conflict_do_update(index_elements=list(key), set_=dict(row))
