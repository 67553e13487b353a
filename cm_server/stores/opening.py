"""How a connection to a store's index is opened: tables made or upgraded, versions and owners checked."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from cm_server.stores import schema
from cm_server.stores.dialect import insert
from cm_server.stores.errors import StoreError
from cm_server.stores.location import SQLITE_INDEX, Database, database_of
from cm_server.stores.postgres import cannot_reach, engine_of

BUSY_TIMEOUT_MS = 10_000
WRITER_BUSY_TIMEOUT_MS = 2_000
"""The server's loop waits no longer for a lock: it goes on serving, and tries again."""
_STORE_KEY = "store"
_UPGRADABLE = ("1", "2")


def open_engine(directory: Path, *, writer: bool) -> sa.Engine:
    """Opens the store's index, which is a file in its folder, or a database that the folder names.

    Args:
        directory: the store's folder.
        writer: True for the one process that writes (and therefore checkpoints); readers only ever read.

    Raises:
        StoreError: the folder cannot be written, the database not be opened, or (reader) there is no store, or its
            schema is another version's.
    """
    database = database_of(directory)
    if database is not None:
        return _open_database(database, directory, writer)
    path = directory / SQLITE_INDEX
    if not writer and not path.exists():
        raise StoreError(f"no store at {directory}: start a server with --store {directory}, or name another folder")
    patience = WRITER_BUSY_TIMEOUT_MS if writer else BUSY_TIMEOUT_MS
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": patience / 1000})
    _configure(engine, writer)
    if writer:
        _create_or_upgrade(engine)
    _check_version(engine, directory)
    return engine


def _open_database(database: Database, directory: Path, writer: bool) -> sa.Engine:
    engine = engine_of(database.url, writer=writer)
    try:
        if writer:
            _create_or_upgrade(engine)
            _claim(engine, database)
        elif not sa.inspect(engine).has_table(schema.meta.name):
            raise StoreError(f"no store in {database.url}: start a server with this --store, or name another")
        _check_version(engine, directory)
        _check_claim(engine, database, directory)
    except DBAPIError as error:
        engine.dispose()
        raise cannot_reach(database.url, error) from None
    except StoreError:
        engine.dispose()
        raise
    return engine


def _claim(engine: sa.Engine, database: Database) -> None:
    """The first server ties database and folder together."""
    with engine.begin() as connection:
        row = {"key": _STORE_KEY, "value": database.store}
        connection.execute(insert(connection, schema.meta).values(**row).on_conflict_do_nothing())


def _check_claim(engine: sa.Engine, database: Database, directory: Path) -> None:
    with engine.connect() as connection:
        found = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == _STORE_KEY)).scalar()
    if found != database.store:
        raise StoreError(
            f"the database {database.url} belongs to another folder than {directory}: give the folder of its arrays, "
            "--store postgresql://…?folder=/path, or another database"
        )


def _create_or_upgrade(engine: sa.Engine) -> None:
    """Makes what is missing: the whole schema, or what a newer version added to it (in one transaction)."""
    with engine.begin() as connection:
        schema.meta.create(connection, checkfirst=True)
        version = connection.execute(
            sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
        ).scalar()
        if version is not None and version not in (*_UPGRADABLE, str(schema.SCHEMA_VERSION)):
            return  # another program's store: not a byte of it is touched
        schema.metadata.create_all(connection)
        if version in _UPGRADABLE:
            for table in schema.metadata.tables.values():
                _add_columns(connection, table)
        for index in (index for table in schema.metadata.tables.values() for index in table.indexes):
            index.create(connection, checkfirst=True)  # also of this version: one more index changes no answer
        statement = insert(connection, schema.meta).values(key="schema_version", value=str(schema.SCHEMA_VERSION))
        connection.execute(
            statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value})
        )


def _add_columns(connection: sa.Connection, table: sa.Table) -> None:
    # SQLite adds a NOT NULL column only with a server_default: give new columns one, or let them be null.
    here = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in here:
            described = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {described}")


def _configure(engine: sa.Engine, writer: bool) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection, _record) -> None:
        connection.isolation_level = (
            None  # we say BEGIN ourselves: a read that becomes a write ignores the busy timeout
        )
        cursor = connection.cursor()
        if writer:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new index; `runs compact` gives pages back in steps
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA wal_autocheckpoint=4000")  # 16 MB: pages changed again and again are copied once
        else:
            cursor.execute("PRAGMA query_only=ON")
            cursor.execute("PRAGMA wal_autocheckpoint=0")  # the writer is the only checkpointer
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


def _check_version(engine: sa.Engine, directory: Path) -> None:
    with engine.connect() as connection:
        found = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")).scalar()
    if found != str(schema.SCHEMA_VERSION):
        raise StoreError(
            f"the store at {directory} has schema version {found}, this program reads {schema.SCHEMA_VERSION}: "
            "start a server of this version on it once (an older store is upgraded), or use another --store"
        )
