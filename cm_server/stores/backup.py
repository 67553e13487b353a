"""Copying a store while it is written, and putting a copy in place. A backup is a store: it can be opened as it is.

Its index is a file, also where the store's is in a database: so a backup brings a store from one kind to the other.

Array files are only ever appended to, so they are tied down first (hard links in the store's folder, where nobody can
remove the bytes any more), then the index is copied in one read transaction, and then the files. Every row that came
along has its bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.archive import FILE as ARCHIVE
from cm_server.stores.copying import copy_rows
from cm_server.stores.errors import StoreError
from cm_server.stores.location import SQLITE_INDEX, Database, database_of, has_index
from cm_server.stores.opening import BUSY_TIMEOUT_MS, open_engine
from cm_server.stores.writer import lock_folder

MANIFEST = "backup.json"
INDEX = SQLITE_INDEX
FOLDERS = ("segments", "images", "probes", "maps")
_CHUNK = 8 * 2**20
_TIED = ".backup-"
"""Folders of links in the store; one that is older than a day was left by a backup that was killed."""
_OLD_SECONDS = 86_400.0
Show = Callable[[str, int, int], None]
"""Called with a file's name, bytes done and bytes in all."""


@dataclass(frozen=True)
class Copied:
    """What a backup holds; ``kept`` is where a store that was replaced lies now."""

    files: int
    size: int
    runs: int
    kept: str = ""


def back_up(store: Path, target: Path, show: Show = lambda name, done, total: None) -> Copied:
    """Copies a store into a new folder, which appears under its name when it is complete.

    Args:
        store: the store's folder; a server may be writing it.
        target: must not exist.
        show: told how far it is.

    Raises:
        StoreError: there is no store, the target exists or cannot be written, or the disk is full.
    """
    if not has_index(store):
        raise StoreError(f"no store at {store}: name another folder with --store")
    if target.exists():
        raise StoreError(f"{target} exists already: a backup goes into a new folder, give another name")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    tied = store / f"{_TIED}{uuid.uuid4().hex[:12]}"
    _sweep(store)
    try:
        part.mkdir(parents=True)
        _tie_down(store, tied)
        if database_of(store) is not None:
            _copy_out(store, part)
        else:
            _copy_index(store / INDEX, part / INDEX)
        _tie_down(store, tied)  # what was begun since the first time: the index may speak of it
        copied = _copy_files(tied, part, show)
        _sync_folder(part)
        part.replace(target)
    except OSError as error:
        raise StoreError(f"the backup to {target} failed ({error.strerror}): nothing was left there") from None
    finally:
        shutil.rmtree(tied, ignore_errors=True)
        shutil.rmtree(part, ignore_errors=True)
    _sync_folder(target.parent)
    return copied


def restore(backup: Path, store: Path, replace: bool, show: Show = lambda name, done, total: None) -> Copied:
    """Checks a backup and copies it to where a store belongs.

    Args:
        backup: a folder that `back_up` made.
        store: where to put it. A folder with a store in it is only taken with ``replace``, and kept beside the new one.
        replace: put it in the place of the store that is there.
        show: told how far it is.

    Raises:
        StoreError: the backup is damaged or of a newer version, or the place is taken.
    """
    manifest = _manifest(backup)
    if (database := database_of(store)) is not None:
        return _restore_into(database, backup, store, manifest, show)
    here = store.exists() and any(store.iterdir())
    if here and not replace:
        raise StoreError(
            f"{store} is not empty: restore into another folder, or give --replace (what is there is kept)"
        )
    part = store.with_name(f".{store.name}.restored")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        copied = _copy_checked(backup, part, manifest, show)
        _check_index(part / INDEX)
        if here:
            copied = dataclasses.replace(copied, kept=str(_moved_aside(store)))
        elif store.exists():
            store.rmdir()
        part.replace(store)
    except OSError as error:
        raise StoreError(f"{backup} could not be restored to {store} ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _sync_folder(store.parent)
    return copied


def _restore_into(database: Database, backup: Path, store: Path, manifest: dict[str, Any], show: Show) -> Copied:
    """Files first, then the rows that prove them, in one transaction; the database must be empty."""
    engine = open_engine(store, writer=True)
    part = store.with_name(f".{store.name}.restored")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with engine.connect() as connection:
            if connection.execute(sa.select(schema.runs.c.run).limit(1)).first() is not None:
                raise StoreError(f"the database {database.url} has runs already: restore into an empty one")
        part.mkdir(parents=True)
        copied = _copy_checked(backup, part, manifest, show)
        _check_index(part / INDEX)
        for path in _files(part):
            place = store / path.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
            _sync_folder(place.parent)
        source = open_engine(part, writer=True)  # upgrades what an earlier version made
        try:
            copy_rows(source, engine)
        finally:
            source.dispose()
    except OSError as error:
        raise StoreError(f"{backup} could not be restored to {store} ({error.strerror or error})") from None
    finally:
        engine.dispose()
        shutil.rmtree(part, ignore_errors=True)
    return copied


def _moved_aside(store: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = store.with_name(f"{store.name}.before-{stamp}-{uuid.uuid4().hex[:4]}")
    with lock_folder(store):  # no server may go on writing what is moved
        store.replace(aside)
    return aside


def _sweep(store: Path) -> None:
    for path in store.glob(f"{_TIED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(path)


def _tie_down(store: Path, tied: Path) -> None:
    for path in _files(store):
        link = tied / path.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError):
            os.link(path, link)


def _files(store: Path) -> Iterator[Path]:
    """Files to copy; of array files in an archive only where that is."""
    if (store / ARCHIVE).exists():
        yield store / ARCHIVE
    for folder in FOLDERS:
        for path in sorted((store / folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path


def _copy_out(store: Path, part: Path) -> None:
    """The rows of an index in a database, into a new file."""
    source, target = open_engine(store, writer=False), open_engine(part, writer=True)
    try:
        copy_rows(source, target)
    finally:
        source.dispose()
        target.dispose()
    with closing(sqlite3.connect(part / INDEX)) as new:
        new.execute("PRAGMA journal_mode=DELETE")


def _copy_index(source: Path, target: Path) -> None:
    """In one read transaction, beside the one writer; readers never checkpoint."""
    seconds = BUSY_TIMEOUT_MS / 1000
    with closing(sqlite3.connect(source, timeout=seconds)) as old, closing(sqlite3.connect(target)) as new:
        old.execute("PRAGMA query_only=ON")
        old.execute("PRAGMA wal_autocheckpoint=0")
        try:
            old.backup(new)
        except sqlite3.Error as error:
            raise StoreError(f"the index {source} could not be copied: {error}") from None
        new.execute("PRAGMA journal_mode=DELETE")  # one file, complete in itself


def _copy_files(tied: Path, part: Path, show: Show) -> Copied:
    files = list(_files(tied))
    total = sum(path.stat().st_size for path in files) + (part / INDEX).stat().st_size
    sums = {INDEX: _sum(part / INDEX)}
    _sync_file(part / INDEX)
    done = (part / INDEX).stat().st_size
    for path in files:
        name = path.relative_to(tied).as_posix()
        show(name, done, total)
        sums[name] = _copy(path, part / name)
        done += sums[name]["size"]
    runs = _check_index(part / INDEX)
    manifest = {"version": 1, "made": time.time(), "schema": schema.SCHEMA_VERSION, "runs": runs, "files": sums}
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _sync_file(part / MANIFEST)
    return Copied(len(sums), done, runs)


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copies as many bytes as there are now; returns their number and sum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), source.stat().st_size
    size = left
    with source.open("rb") as old, target.open("xb") as new:
        while left and (chunk := old.read(min(_CHUNK, left))):
            new.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
        new.flush()
        os.fsync(new.fileno())
    return {"size": size - left, "sha256": digest.hexdigest()}


def _copy_checked(backup: Path, part: Path, manifest: dict[str, Any], show: Show) -> Copied:
    files = manifest["files"]
    total, done = sum(about["size"] for about in files.values()), 0
    for name, about in files.items():
        show(name, done, total)
        source = backup / name
        if not source.is_file():
            raise StoreError(f"{backup} is not complete: {name} is missing; use another backup")
        if _copy(source, part / name) != {"size": about["size"], "sha256": about["sha256"]}:
            raise StoreError(f"{source} is damaged: its checksum is not the one in {MANIFEST}; use another backup")
        done += about["size"]
    return Copied(len(files), total, int(manifest["runs"]))


def _manifest(backup: Path) -> dict[str, Any]:
    try:
        found = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
        names = [*found["files"]]
    except FileNotFoundError:
        raise StoreError(f"{backup} is no backup: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(f"{backup / MANIFEST} cannot be read: use another backup") from None
    if INDEX not in names or any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise StoreError(f"{backup / MANIFEST} names files that no backup has: use another backup")
    if found.get("schema", 0) > schema.SCHEMA_VERSION:
        raise StoreError(
            f"{backup} was made by a newer version (schema {found['schema']}): update concept-monitor first"
        )
    return found


def _check_index(path: Path) -> int:
    """Raises unless the index is whole; returns how many runs it has."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as index:
        try:
            verdict = index.execute("PRAGMA integrity_check(1)").fetchone()[0]
            runs = index.execute("SELECT count(*) FROM runs").fetchone()[0]
        except sqlite3.Error as error:
            verdict, runs = str(error), 0
    if verdict != "ok":
        raise StoreError(f"the index {path.name} is damaged: {verdict}; use another backup")
    return int(runs)


def _sum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
