"""Where a store is: a folder of arrays, and an index that lies in it (SQLite) or in a PostgreSQL database.

Everything that handles a store is given its folder. A folder whose index is a database says so in a file of its own,
which holds the database's address and the store's id, and never a password: that comes from ``PGPASSWORD``,
``~/.pgpass`` or a service file, which every PostgreSQL client reads.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from cm_server.stores.durable import AtomicFile
from cm_server.stores.errors import StoreError

SQLITE_INDEX = "index.sqlite"
DATABASE_FILE = "database.json"
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True)
class Database:
    """The database that holds a folder's index.

    Attributes:
        url: ``postgresql://user@host:port/name?…``, without a password.
        store: the id that folder and database share, so that neither is used with another's.
    """

    url: str
    store: str


def database_of(folder: Path) -> Database | None:
    """The database of a store; None where its index is a file in the folder.

    Raises:
        StoreError: what the folder says of it cannot be read.
    """
    path = folder / DATABASE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Database(str(found["url"]), str(found["store"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(f"{path} cannot be read: give --store postgresql://… of another folder, or mend it") from None


def has_index(folder: Path) -> bool:
    """Whether there is a store in this folder, as far as one can see without asking a database."""
    return (folder / SQLITE_INDEX).exists() or (folder / DATABASE_FILE).exists()


def folder_of(store: str, home: Path) -> str:
    """The folder that ``--store`` means.

    Args:
        store: a path, ``sqlite:///path``, or ``postgresql://user@host/name?folder=/path`` with the folder of its
            arrays, which all who read the store must see; by default one below ``home`` that is named after the
            database. A folder that is new to the database is made and told so.
        home: where stores are by default.

    Raises:
        StoreError: it is no address of a store, or the folder belongs to another index.

    >>> home = Path("/data")
    >>> folder_of("runs", home), folder_of("sqlite:////data/cm", home), folder_of("sqlite:///cm", home)
    ('runs', '/data/cm', 'cm')
    """
    scheme, separator, rest = store.partition("://")
    if not separator:
        return store
    if scheme == "sqlite":
        if not rest.startswith("/") or not rest.strip("/"):
            raise StoreError(f"--store {store!r}: write sqlite:///folder, or sqlite:////absolute/folder")
        return unquote(rest[1:])
    if scheme not in _POSTGRES:
        raise StoreError(f"--store {shown(store)!r}: give a folder, sqlite:///folder or postgresql://user@host/name")
    url, folder = _split(urlsplit(store), home)
    _join(folder, url)
    return str(folder)


def shown(url: str) -> str:
    """An address without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    account, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account.partition(':')[0]}@{host}"))


def _split(parts: SplitResult, home: Path) -> tuple[str, Path]:
    """A PostgreSQL address without folder and password, and the folder; the password goes to libpq's variable."""
    name = unquote(parts.path.strip("/"))
    if not name or "/" in name:
        raise StoreError(f"--store {shown(urlunsplit(parts))!r}: name one database, postgresql://user@host/name")
    query = dict(parse_qsl(parts.query))
    folder = query.pop("folder", "")
    password = query.pop("password", None) or parts.password
    if password:
        os.environ["PGPASSWORD"] = unquote(password)  # of this process and those it starts; no file ever holds it
    account, _, host = parts.netloc.rpartition("@")
    user = account.partition(":")[0]
    kept = SplitResult("postgresql", f"{user}@{host}" if user else host, f"/{name}", urlencode(query), "")
    return urlunsplit(kept), Path(folder).expanduser().absolute() if folder else home / f"postgresql-{name}"


def _join(folder: Path, url: str) -> None:
    known = database_of(folder)
    if known is not None:
        if known.url != url:
            raise StoreError(
                f"the folder {folder} belongs to the database {known.url}, not to {url}: give ?folder=… another folder"
            )
        return
    if (folder / SQLITE_INDEX).exists():
        raise StoreError(
            f"the folder {folder} holds a store of its own (SQLite): give ?folder=… another folder, and bring that "
            "store over with `concept-monitor runs backup` and `runs restore`"
        )
    write_database(folder, Database(url, uuid.uuid4().hex))


def write_database(folder: Path, database: Database) -> None:
    """Ties a folder to its database.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        with AtomicFile(folder / DATABASE_FILE) as file:
            file.write(json.dumps({"url": database.url, "store": database.store}, indent=1).encode())
    except OSError as error:
        raise StoreError(f"the folder {folder} is not writable ({error.strerror}): give ?folder=… another") from None
