"""Tables of the store, and how a connection to them is opened."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from cm_server.stores.dialect import insert
from cm_server.stores.errors import StoreError
from cm_server.stores.location import SQLITE_INDEX, Database, database_of
from cm_server.stores.postgres import cannot_reach, engine_of

SCHEMA_VERSION = 3
"""2 and 3 add tables, columns and indexes; nothing was renamed or removed, so a writer can upgrade in place."""
_UPGRADABLE = ("1", "2")
BUSY_TIMEOUT_MS = 10_000
WRITER_BUSY_TIMEOUT_MS = 2_000
"""The server's loop waits no longer for a lock: it goes on serving, and tries again."""

_STORE_KEY = "store"
_Whole = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
"""Any whole number of 64 bits: SQLite's INTEGER holds these, PostgreSQL's does not."""
metadata = sa.MetaData()

meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("model", sa.Text, nullable=False, default=""),
    sa.Column("planned_steps", _Whole),
    sa.Column("activity", sa.Text, nullable=False, default=""),
    sa.Column("encoder", sa.Text, nullable=False, default=""),
    sa.Column("detector", sa.Text, nullable=False, default=""),
    sa.Column("temperature", sa.Float),
    sa.Column("probes", _Whole, nullable=False, default=0),
    sa.Column("probe_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("probe_source", sa.Text, nullable=False, default=""),
    sa.Column("concept_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("map_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("config", sa.JSON, nullable=False, default=dict),
    sa.Column("stats", sa.JSON, nullable=False, default=dict),
    sa.Column("sample", sa.Text, nullable=False, default="probe", server_default="probe"),
    sa.Column("revision", _Whole, nullable=False, server_default="0"),
    sa.Column("title", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", sa.JSON, nullable=False, server_default="[]"),
)
"""``name`` is what the training calls itself, ``title`` what a person called the run since, ``tags`` are a person's."""

epochs = sa.Table(
    "epochs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Text, primary_key=True),
    sa.Column("begun", sa.Float, nullable=False),
    sa.Column("start_step", _Whole),
    sa.Column("first_step", _Whole),
    sa.Column("last_step", _Whole),
    sa.Column("ended", sa.Text, nullable=False, server_default=""),
)

layers = sa.Table(
    "layers",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("position", _Whole, nullable=False),
    sa.Column("units", _Whole, nullable=False),
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("capture", _Whole, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("captured_at", sa.Float, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("committed_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.JSON, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("probe_fingerprint", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("run", "epoch", "capture"),
    sqlite_autoincrement=True,
)
sa.Index("snapshots_by_step", snapshots.c.run, snapshots.c.step)

layer_reports = sa.Table(
    "layer_reports",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("segment", sa.Text, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
    sa.Column("arrays", sa.JSON, nullable=False),
    sa.Column("seal", sa.BigInteger),
)
"""``segment`` is empty where the arrays were given up to save space (`core.retention`): the summary stays. ``seal``:
checksum of the row (`seals.seal_of`); null where an earlier version wrote it."""
sa.Index("layer_reports_by_run", layer_reports.c.run, layer_reports.c.layer, layer_reports.c.sequence)
sa.Index(
    "layer_reports_by_step",
    layer_reports.c.run,
    layer_reports.c.layer,
    layer_reports.c.step,
    layer_reports.c.sequence,
)

layer_descriptions = sa.Table(
    "layer_descriptions",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("texts", sa.JSON, nullable=False),
)

scalars = sa.Table(
    "scalars",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("number", _Whole, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("value", sa.Float),
    sa.UniqueConstraint("run", "epoch", "number", "name"),
)
sa.Index("scalars_by_run", scalars.c.run, scalars.c.id)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("layer", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("opened", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("alerts_by_run", alerts.c.run, alerts.c.id)

acknowledgements = sa.Table(
    "acknowledgements",
    metadata,
    sa.Column("alert", _Whole, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

silences = sa.Table(
    "silences",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("matchers", sa.JSON, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("queued", sa.Float, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", _Whole, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
)
sa.Index("notices_by_state", notices.c.state, notices.c.created)

told = sa.Table(
    "told",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("alert", _Whole, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("delivered", sa.Boolean, nullable=False),
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False, server_default=""),
    sa.Column("capture", _Whole),
    sqlite_autoincrement=True,  # an id is never given twice, so that "after" means later
)
sa.Index("gaps_by_run", gaps.c.run, gaps.c.capture)

images = sa.Table(
    "images",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("segment", sa.Text, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
    sa.Column("arrays", sa.JSON, nullable=False),
)
"""Images of stream captures, each once; ``digest`` is the sha256 of what it shows, whatever its key was made of."""

sample_sets = sa.Table(
    "sample_sets",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("image_keys", sa.LargeBinary, nullable=False),
)
"""Which images a stream capture was taken on: 32 bytes of key for each, in the order of its rows."""

files = sa.Table(
    "files",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
)
"""Checksums of whole files (maps, probe sets), by their path in the store; an earlier version listed none."""

concept_sets = sa.Table(
    "concept_sets",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("words", sa.JSON, nullable=False),
    sa.Column("categories", sa.JSON, nullable=False),
)

user_anchors = sa.Table(
    "user_anchors",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("word", sa.Text, primary_key=True),
    sa.Column("wish", sa.Text, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Column("x", sa.Float, nullable=False),
    sa.Column("y", sa.Float, nullable=False),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False, server_default=""),
    sa.Column("created", sa.Float, nullable=False),
)
"""Words that people added to a run; ``vector`` is float32, little-endian."""


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
            _claim(engine, database, directory)
        elif not sa.inspect(engine).has_table(meta.name):
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


def _claim(engine: sa.Engine, database: Database, directory: Path) -> None:
    """The first server ties database and folder together."""
    with engine.begin() as connection:
        row = {"key": _STORE_KEY, "value": database.store}
        connection.execute(insert(connection, meta).values(**row).on_conflict_do_nothing())


def _check_claim(engine: sa.Engine, database: Database, directory: Path) -> None:
    with engine.connect() as connection:
        found = connection.execute(sa.select(meta.c.value).where(meta.c.key == _STORE_KEY)).scalar()
    if found != database.store:
        raise StoreError(
            f"the database {database.url} belongs to another folder than {directory}: give the folder of its arrays, "
            "--store postgresql://…?folder=/path, or another database"
        )


def _create_or_upgrade(engine: sa.Engine) -> None:
    """Makes what is missing: the whole schema, or what a newer version added to it (in one transaction)."""
    with engine.begin() as connection:
        meta.create(connection, checkfirst=True)
        version = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
        if version is not None and version not in (*_UPGRADABLE, str(SCHEMA_VERSION)):
            return  # another program's store: not a byte of it is touched
        metadata.create_all(connection)
        if version in _UPGRADABLE:
            for table in metadata.tables.values():
                _add_columns(connection, table)
        for index in (index for table in metadata.tables.values() for index in table.indexes):
            index.create(connection, checkfirst=True)  # also of this version: one more index changes no answer
        statement = insert(connection, meta).values(key="schema_version", value=str(SCHEMA_VERSION))
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
        found = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if found != str(SCHEMA_VERSION):
        raise StoreError(
            f"the store at {directory} has schema version {found}, this program reads {SCHEMA_VERSION}: "
            "start a server of this version on it once (an older store is upgraded), or use another --store"
        )
