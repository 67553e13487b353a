"""Looks at every byte of a store that has a checksum, and at every row that speaks of another. Reads only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from cm_server.stores import schema
from cm_server.stores.dialect import is_postgres
from cm_server.stores.durable import file_checksum
from cm_server.stores.errors import StoreError
from cm_server.stores.opening import open_engine
from cm_server.stores.pictures import FOLDER as IMAGES
from cm_server.stores.pictures import digest_of
from cm_server.stores.seals import seal_of
from cm_server.stores.segments import extent_of, read_record

Progress = Callable[[int, int], None]
_AT_ONCE = 1000
_COUNTS = (sa.func.count().label("n"), sa.func.coalesce(sa.func.sum(sa.column("length")), 0).label("size"))
_MOST_WORDS = 20
"""Lines of SQLite's own check that are passed on."""


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written.

    Attributes:
        kind: ``snapshot``, ``image``, ``file`` (a probe set or a map), ``orphan`` (a row that speaks of none) or
            ``index`` (SQLite's own structure: only a backup helps).
        where: the file, and where in it.
        problem: in words.
        run, step, layer: what it belongs to, where it belongs to a run.
        key: of the row: sequence number, image key or path.
    """

    kind: str
    where: str
    problem: str
    key: str
    run: str = ""
    step: int = -1
    layer: str = ""


@dataclass
class Findings:
    """What was looked at, and what is wrong with it."""

    snapshots: int = 0
    layers: int = 0
    images: int = 0
    files: int = 0
    nbytes: int = 0
    damages: list[Damage] = field(default_factory=list)


def verify(directory: Path, progress: Progress = lambda done, total: None) -> Findings:
    """Checks a whole store, also while a server writes it.

    Args:
        directory: the store's folder.
        progress: told how many of all layers and images are done.

    Raises:
        StoreError: there is no store, or it is of another version.
    """
    found = Findings()
    try:
        engine = open_engine(directory, writer=False)
        try:
            found.damages += _structure(engine)
            found.damages += _orphans(engine, found)
            _records(directory, engine, found, progress)
            _files(directory, engine, found)
        finally:
            engine.dispose()
    except DatabaseError as error:
        if not isinstance(error.orig, sqlite3.DatabaseError) or isinstance(error.orig, sqlite3.OperationalError):
            raise
        found.damages.append(Damage("index", "index.sqlite", str(error.orig), "index"))
    return found


def _rows(engine: sa.Engine, query: sa.Select) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _structure(engine: sa.Engine) -> Iterator[Damage]:
    if is_postgres(engine):  # it looks after its own pages: data checksums, pg_amcheck
        return
    with engine.connect() as connection:
        for (text,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_WORDS})"):
            if text != "ok":
                yield Damage("index", "index.sqlite", str(text), "index")


def _orphans(engine: sa.Engine, found: Findings) -> Iterator[Damage]:
    """Rows of layers without their snapshot, and snapshots without a layer."""
    snapshots, reports = schema.snapshots.c, schema.layer_reports.c
    found.snapshots = _rows(engine, sa.select(sa.func.count().label("n")).select_from(schema.snapshots))[0]["n"]
    lone = sa.select(schema.snapshots).where(~sa.exists().where(reports.sequence == snapshots.sequence))
    for row in _rows(engine, lone):
        yield Damage(
            "orphan", "index.sqlite", "a snapshot without a layer", str(row["sequence"]), row["run"], row["step"]
        )
    for table in (schema.layer_reports, schema.layer_descriptions):
        homeless = sa.select(table).where(~sa.exists().where(snapshots.sequence == table.c.sequence))
        for row in _rows(engine, homeless):
            about = str(row["sequence"]), row.get("run", ""), row.get("step", -1), row["layer"]
            yield Damage("orphan", "index.sqlite", f"a row of {table.name} without its snapshot", *about)


def _records(directory: Path, engine: sa.Engine, found: Findings, progress: Progress) -> None:
    reports, images = schema.layer_reports, schema.images
    counted = [_rows(engine, sa.select(*_COUNTS).select_from(table))[0] for table in (reports, images)]
    total, done = sum(row["n"] for row in counted), 0
    found.nbytes = int(sum(row["size"] for row in counted))
    for sequence, layer in _keys(engine, reports.c.sequence, reports.c.layer):
        progress(done := done + 1, total)
        of_row = sa.select(reports).where(reports.c.sequence == sequence, reports.c.layer == layer)
        found.damages += _twice(engine, of_row, lambda row: _layer_damage(directory, row))
        found.layers += 1
    for (key,) in _keys(engine, images.c.key):
        progress(done := done + 1, total)
        found.damages += _twice(
            engine, sa.select(images).where(images.c.key == key), lambda row: _image_damage(directory, row)
        )
        found.images += 1


def _keys(engine: sa.Engine, *columns: sa.Column) -> Iterator[tuple[Any, ...]]:
    """All keys in order, some at a time: a store may have millions, and a long read would hold up its checkpoints."""
    after: tuple[Any, ...] | None = None
    while True:
        query = sa.select(*columns).order_by(*columns).limit(_AT_ONCE)
        if after is not None:
            query = query.where(sa.tuple_(*columns) > sa.tuple_(*map(sa.literal, after)))
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(query)]
        yield from found
        if len(found) < _AT_ONCE:
            return
        after = found[-1]


def _twice(engine: sa.Engine, query: sa.Select, look: Callable[[Mapping[str, Any]], Damage | None]) -> Iterator[Damage]:
    """Looks again before it speaks: a server may have moved or removed a record since its row was read."""
    for attempt in range(2):
        rows = _rows(engine, query)
        damage = look(rows[0]) if rows else None
        if damage is None:
            return
        if attempt:
            yield damage


def _layer_damage(directory: Path, row: Mapping[str, Any]) -> Damage | None:
    about = str(row["sequence"]), row["run"], row["step"], row["layer"]
    if row["seal"] not in (None, seal_of(row)):
        return Damage("snapshot", "index.sqlite", "the checksum of its numbers does not match", *about)
    if not row["segment"]:  # its arrays were given up to save space
        return None
    try:
        read_record(directory / "segments", extent_of(row))
    except (StoreError, ValueError) as error:
        return Damage("snapshot", f"segments/{row['segment']} at byte {row['offset']}", str(error), *about)
    return None


def _image_damage(directory: Path, row: Mapping[str, Any]) -> Damage | None:
    where = f"{IMAGES}/{row['segment']} at byte {row['offset']}"
    try:
        image = read_record(directory / IMAGES, extent_of(row))["image"]
    except (StoreError, ValueError, KeyError) as error:
        return Damage("image", where, str(error), row["key"])
    if digest_of(image) != row["digest"]:
        return Damage("image", where, "the image is not the one that was stored", row["key"])
    return None


def _files(directory: Path, engine: sa.Engine, found: Findings) -> None:
    used = _used_files(engine)
    for row in _rows(engine, sa.select(schema.files)):
        found.files += 1
        path = directory / row["path"]
        if not path.exists():
            if row["path"] in used:
                found.damages.append(Damage("file", row["path"], "it is missing", row["path"], used[row["path"]]))
        elif file_checksum(path) != (row["length"], row["crc32"]):
            about = row["path"], used.get(row["path"], "")
            found.damages.append(Damage("file", row["path"], "its checksum does not match", *about))


def _used_files(engine: sa.Engine) -> dict[str, str]:
    """Files that runs speak of, each with one of these runs."""
    runs = _rows(engine, sa.select(schema.runs))
    used = {f"maps/{row['map_fingerprint']}.npz": row["run"] for row in runs if row["map_fingerprint"]}
    for row in runs:
        if row["probe_fingerprint"]:
            used |= {f"probes/{row['probe_fingerprint']}{end}": row["run"] for end in (".npy", ".labels.npz")}
    return used
