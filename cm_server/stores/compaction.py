"""Giving back what nobody uses any more: dead bytes in segments, files without a row, pages of the index.

In small steps, so that a server can take them between two messages. A record moves like a new one is written: bytes,
sync, then the row in a transaction, and only then does the old file go. A reader that was overtaken looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.archive import archive_of, free_archived, stretches
from cm_server.stores.dialect import is_postgres
from cm_server.stores.errors import StoreError
from cm_server.stores.pictures import FOLDER as IMAGES
from cm_server.stores.pictures import KEY_BYTES
from cm_server.stores.pictures import PART as ALL_IMAGES
from cm_server.stores.removal import SEGMENTS, free_segments, live_segments
from cm_server.stores.segments import SegmentWriter, extent_of, intact

WORTH_IT = 0.25
"""A segment is written anew where more than this share of it is dead."""
STEP_BYTES = 16 * 2**20
STEP_PAGES = 1000
STEP_IMAGES = 500
Begin = Callable[[], AbstractContextManager[sa.Connection]]
"""`StoreWriter.transaction`."""


@dataclass(frozen=True)
class Step:
    """One step of a long command: what it was about, bytes that went back to the file system, snapshots that lost their
    arrays or were deleted, and what could not be done."""

    about: str
    freed: int = 0
    problem: str = ""
    snapshots: int = 0


@dataclass(frozen=True)
class Records:
    """Rows of a table that speak of the records in one folder of segments.

    Attributes:
        table: with the columns of an `Extent`.
        root: what the segments' names are relative to.
        folder: name of the folder below it.
        only: which of the table's rows.
    """

    table: sa.Table
    root: Path
    folder: str
    only: sa.ColumnElement[bool]


def of_run(store: Path, run: str) -> Records:
    """The arrays of a run's snapshots."""
    reports = schema.layer_reports
    return Records(reports, store / SEGMENTS, run, reports.c.run == run)


def of_images(store: Path) -> Records:
    """The images of stream captures."""
    return Records(schema.images, store / IMAGES, ALL_IMAGES, sa.true())


def compact(begin: Begin, records: Records, writing: str) -> Iterator[Step]:
    """Writes half-empty segments anew and removes what no row speaks of.

    Args:
        begin: opens a transaction.
        records: which.
        writing: the segment that is appended to now, which stays; empty if none.
    """
    with begin() as connection:
        live = live_segments(connection, records.table, records.only)
    yield Step(records.folder, free_segments(records.root, records.folder, {*live, writing}))
    if records.root.name == SEGMENTS and (archive := archive_of(records.root.parent)) is not None:
        yield Step(records.folder, free_archived(archive, records.folder, live))
    sparse = [name for name, used in live.items() if name != writing and _is_sparse(records.root / name, used)]
    if sparse:
        writer = SegmentWriter(records.root, records.folder)  # what is left of several goes into one
        try:
            for segment in sparse:
                yield from _rewritten(begin, records, segment, writer)
        finally:
            writer.close()


def _is_sparse(path: Path, used: int) -> bool:
    size = _size(path)
    return size - used > WORTH_IT * size


def _rewritten(begin: Begin, records: Records, segment: str, writer: SegmentWriter) -> Iterator[Step]:
    before = _size(records.root / segment) + writer.written
    while rows := _some(begin, records, segment):
        try:
            moved = [(row, writer.append_raw(_payload(records.root, segment, row))) for row in rows]
        except StoreError as error:
            yield Step(segment, problem=str(error))
            return
        writer.sync()
        with begin() as connection:
            for row, place in moved:
                connection.execute(_moved(records.table, row, *place))
        yield Step(segment)
    (records.root / segment).unlink(missing_ok=True)
    yield Step(segment, before - writer.written)


def _some(begin: Begin, records: Records, segment: str) -> Sequence[Mapping[str, Any]]:
    """The next records of a segment, about `STEP_BYTES` of them."""
    table = records.table
    columns = [*table.primary_key.columns, table.c.segment, table.c.offset, table.c.length]
    columns += [table.c.crc32, table.c.arrays]
    query = sa.select(*columns).where(records.only, table.c.segment == segment).order_by(table.c.offset)
    found, total = [], 0
    with begin() as connection:
        for row in connection.execute(query).mappings():
            found.append(dict(row))
            total += row["length"]
            if total >= STEP_BYTES:
                break
    return found


def _payload(root: Path, segment: str, row: Mapping[str, Any]) -> bytes:
    (payload,) = stretches(root, segment, [row["offset"]], row["length"])
    if not intact(payload, extent_of(row)):
        raise StoreError(f"{segment} is damaged at byte {row['offset']}: it is left as it is")
    return payload


def _moved(table: sa.Table, row: Mapping[str, Any], segment: str, offset: int) -> sa.Update:
    about = sa.and_(*(column == row[column.name] for column in table.primary_key.columns))
    return sa.update(table).where(about).values(segment=segment, offset=offset)


def forget_images(begin: Begin) -> Iterator[Step]:
    """Lets go of the images of stream captures that no snapshot with arrays speaks of; their bytes go with `compact`.

    Only while no server takes captures: an image may be here before the capture that it belongs to.
    """
    reports, snapshots, sets = schema.layer_reports, schema.snapshots, schema.sample_sets
    with begin() as connection:
        told = reports.c.summary["images"].as_string()
        used = set(connection.execute(sa.select(told).where(reports.c.segment != "").distinct()).scalars())
        held = sa.exists().where(reports.c.sequence == snapshots.c.sequence, reports.c.segment != "")
        used |= set(connection.execute(sa.select(snapshots.c.probe_fingerprint).where(held).distinct()).scalars())
        rows = connection.execute(sa.select(sets.c.fingerprint, sets.c.image_keys))
        known = {str(fingerprint): bytes(keys) for fingerprint, keys in rows}
        for fingerprint in known.keys() - used:
            connection.execute(sa.delete(sets).where(sets.c.fingerprint == fingerprint))
        kept = {
            keys[start : start + KEY_BYTES].hex()
            for fingerprint, keys in known.items()
            if fingerprint in used
            for start in range(0, len(keys), KEY_BYTES)
        }
        unused = sorted(set(connection.execute(sa.select(schema.images.c.key)).scalars()) - kept)
    for start in range(0, len(unused), STEP_IMAGES):
        with begin() as connection:
            some = unused[start : start + STEP_IMAGES]
            connection.execute(sa.delete(schema.images).where(schema.images.c.key.in_(some)))
        yield Step("images")


def compact_index(engine: sa.Engine, alone: bool) -> Iterator[Step]:
    """Gives free pages of the index back.

    Args:
        engine: the writer's.
        alone: whether nobody else needs the index meanwhile; one that was made before pages could be given back in
            steps is then rewritten as a whole. PostgreSQL does all this by itself (autovacuum).
    """
    if is_postgres(engine):
        return
    if _pragma(engine, "auto_vacuum") == 2:
        while (free := _pragma(engine, "freelist_count")) > 0:
            _pragma(engine, f"incremental_vacuum({STEP_PAGES})")
            left = _pragma(engine, "freelist_count")
            yield Step("index", (free - left) * _pragma(engine, "page_size"))
            if left >= free:
                break
    elif alone:
        before = _pragma(engine, "page_count")
        _pragma(engine, "VACUUM", plain=True)  # every connection of the writer asks for pages given back in steps
        yield Step("index", (before - _pragma(engine, "page_count")) * _pragma(engine, "page_size"))
    elif _pragma(engine, "freelist_count"):
        yield Step("index", problem="the index is of an earlier version: it shrinks when no server runs on the store")
    _pragma(engine, "wal_checkpoint(TRUNCATE)")


def _pragma(engine: sa.Engine, words: str, plain: bool = False) -> int:
    """Runs a pragma outside of any transaction; its first number."""
    connection = engine.raw_connection()
    try:
        rows = connection.cursor().execute(words if plain else f"PRAGMA {words}").fetchall()
    finally:
        connection.close()
    return int(rows[0][0]) if rows and rows[0] else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
