"""A store's index in PostgreSQL: how connections to it are opened, and what may go wrong with them, in words.

One connection writes, as with SQLite. It holds an advisory lock for as long as it lives, so that two servers never
write one store, from whatever machines; it commits synchronously, so that what is acknowledged outlives the database's
machine. Readers see one state of the index in each of their transactions, and can change nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError

from cm_server.stores.errors import StoreError, StoreInUseError

LOCK = 0x636F6E6365707473
"""The advisory lock's key, of the database that the store is in."""
CONNECT_SECONDS = 5
LOCK_WAIT_MS = 2_000
"""The server's loop waits no longer for a lock: it goes on serving, and tries again."""
_WRITER = {"synchronous_commit": "on", "lock_timeout": str(LOCK_WAIT_MS)}
# A server that lost its network is noticed, and its lock let go, within half a minute.
_ALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
_READER = {"default_transaction_read_only": "on"}


def engine_of(url: str, *, writer: bool) -> sa.Engine:
    """Connections to a database; none is opened yet.

    Args:
        url: ``postgresql://…``.
        writer: True for the one process that writes.

    Raises:
        StoreError: the driver is not installed, or the address cannot be read.
    """
    try:
        from psycopg.types.string import StrDumperUnknown
    except ImportError:
        raise StoreError('PostgreSQL needs its driver: pip install "concept-monitor[postgres]"') from None
    settings = _ALIVE | (_WRITER if writer else _READER)
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": f"concept-monitor {'server' if writer else 'reader'}",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }
    pool: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if writer else {"pool_size": 4, "max_overflow": 12}
    level = "READ COMMITTED" if writer else "REPEATABLE READ"
    try:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            parsed, connect_args=arguments, isolation_level=level, pool_pre_ping=True, pool_timeout=30, **pool
        )
    except ArgumentError:
        raise StoreError(f"{url!r} is no address of a database: write postgresql://user@host/name") from None

    class Printable(StrDumperUnknown):
        """PostgreSQL's texts have no NUL; a name with one in it is no reason to lose what it names."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd"))

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(str, Printable)
        if writer:
            _lock(connection)

    return engine


def _lock(connection: Any) -> None:
    with connection.cursor() as cursor:
        locked = cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone()[0]
    connection.commit()
    if not locked:
        connection.close()
        raise StoreInUseError(
            "the store's database is in use by another server: stop that one, or choose another with --store"
        )


def cannot_reach(url: str, error: BaseException) -> StoreError:
    """What to tell a person whose database cannot be opened."""
    words = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
    cure = "see that it runs and that this user may enter (PGPASSWORD, ~/.pgpass), or give another --store"
    if "does not exist" in words[-1] and "database" in words[-1]:
        cure = "make it (createdb), or give another --store"
    return StoreError(f"the database {url} cannot be opened: {words[-1].strip()}; {cure}")
