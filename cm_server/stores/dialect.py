"""What SQLite and PostgreSQL write differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Upsert = postgresql.Insert | sqlite.Insert
"""Both have ``on_conflict_do_nothing`` and ``on_conflict_do_update(index_elements=…, set_=…)``."""


def is_postgres(bind: sa.Connection | sa.Engine) -> bool:
    """Whether a connection leads to PostgreSQL."""
    return bind.dialect.name == "postgresql"


def insert(connection: sa.Connection, table: sa.Table) -> Upsert:
    """An insert that says what to do where the row is there already."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def plainly(connection: sa.Connection, statement: str, values: Sequence[Any] = ()) -> sa.CursorResult[Any]:
    """Runs a statement in the driver's own words: compiling one would take longer than running it.

    Args:
        connection: within a transaction.
        statement: its values are written ``?``.
        values: of one row, or a list of rows.
    """
    return connection.exec_driver_sql(statement.replace("?", "%s") if is_postgres(connection) else statement, values)


def text_of(column: sa.ColumnElement) -> sa.ColumnElement[str]:
    """A JSON column as the text that is stored, to be parsed later or not at all."""
    return sa.cast(column, sa.Text)
