"""All rows of an index into another, empty one: how an index in PostgreSQL becomes a file in a backup, and back."""

from __future__ import annotations

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.dialect import is_postgres
from cm_server.stores.errors import StoreError

_AT_ONCE = 1000


def copy_rows(source: sa.Engine, target: sa.Engine) -> None:
    """Copies every table, all of it as it was at one moment, in one transaction.

    Args:
        source: only read.
        target: has the tables; what it says of itself (``meta``) stays.

    Raises:
        StoreError: the target has runs already.
    """
    with source.connect() as old, target.begin() as new:
        if new.execute(sa.select(schema.runs.c.run).limit(1)).first() is not None:
            raise StoreError(f"{target.url.render_as_string()} has runs already: restore into an empty database")
        for table in schema.metadata.sorted_tables:
            if table is not schema.meta:
                for rows in old.execution_options(yield_per=_AT_ONCE).execute(sa.select(table)).mappings().partitions():
                    new.execute(sa.insert(table), [dict(row) for row in rows])
                if is_postgres(new):
                    _count_on(new, table)


def _count_on(connection: sa.Connection, table: sa.Table) -> None:
    """Keys that the database gives out go on after those that came along."""
    key = table.autoincrement_column
    if key is not None and key.autoincrement is True:
        sequence = sa.func.pg_get_serial_sequence(table.name, key.name)
        highest = sa.select(sa.func.coalesce(sa.func.max(key), 0) + 1).scalar_subquery()
        connection.execute(sa.select(sa.func.setval(sequence, highest, False)))
