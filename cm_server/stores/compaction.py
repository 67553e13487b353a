"""Giving back what nobody uses any more: dead bytes in segments, files without a row, pages of the index.

In small steps, so that a server can take them between two messages. A record moves like a new one is written: bytes,
sync, then the row in a transaction, and only then does the old file go. A reader that was overtaken looks again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.errors import StoreError
from cm_server.stores.removal import SEGMENTS, free_segments, live_segments
from cm_server.stores.segments import SegmentWriter, read_bytes

WORTH_IT = 0.25
"""A segment is written anew where more than this share of it is dead."""
STEP_BYTES = 16 * 2**20
STEP_PAGES = 1000
Begin = Callable[[], Any]
"""`StoreWriter.transaction`."""


@dataclass(frozen=True)
class Step:
    """One step of a long command: what it was about, bytes that went back to the file system, snapshots that lost their
    arrays or were deleted, and what could not be done."""

    about: str
    freed: int = 0
    problem: str = ""
    snapshots: int = 0


def compact_run(root: Path, begin: Begin, run: str, writing: str) -> Iterator[Step]:
    """Writes a run's half-empty segments anew and removes what no row speaks of.

    Args:
        root: the store's folder.
        begin: opens a transaction.
        run: run id.
        writing: the segment that is appended to now, which stays; empty if none.
    """
    folder = root / SEGMENTS
    with begin() as connection:
        live = live_segments(connection, run)
    yield Step(run, free_segments(folder, run, {*live, writing}))
    for segment, used in live.items():
        size = _size(folder / segment)
        if segment != writing and size and size - used > WORTH_IT * size:
            yield from _rewritten(folder, begin, run, segment)


def _rewritten(folder: Path, begin: Begin, run: str, segment: str) -> Iterator[Step]:
    writer = SegmentWriter(folder, run)
    before = _size(folder / segment)
    try:
        while rows := _some(begin, run, segment):
            try:
                moved = [(row, writer.append_raw(_payload(folder, segment, row))) for row in rows]
            except StoreError as error:
                yield Step(segment, problem=str(error))
                return
            writer.sync()
            with begin() as connection:
                for row, place in moved:
                    connection.execute(_moved(row, *place))
            yield Step(segment)
    finally:
        writer.close()
    written = writer.written
    with begin() as connection:
        live = live_segments(connection, run)
    if segment not in live:
        (folder / segment).unlink(missing_ok=True)
        yield Step(segment, before - written)


def _some(begin: Begin, run: str, segment: str) -> Sequence[Mapping[str, Any]]:
    """The next records of a segment, about `STEP_BYTES` of them."""
    table = schema.layer_reports.c
    columns = table.sequence, table.layer, table.offset, table.length, table.crc32
    query = sa.select(*columns).where(table.run == run, table.segment == segment).order_by(table.offset)
    found, total = [], 0
    with begin() as connection:
        for row in connection.execute(query).mappings():
            found.append(dict(row))
            total += row["length"]
            if total >= STEP_BYTES:
                break
    return found


def _payload(folder: Path, segment: str, row: Mapping[str, Any]) -> bytes:
    payload = read_bytes(folder / segment, row["offset"], row["length"])
    if zlib.crc32(payload) != row["crc32"]:
        raise StoreError(f"{segment} is damaged at byte {row['offset']}: it is left as it is")
    return payload


def _moved(row: Mapping[str, Any], segment: str, offset: int) -> sa.Update:
    table = schema.layer_reports
    about = sa.and_(table.c.sequence == row["sequence"], table.c.layer == row["layer"])
    return sa.update(table).where(about).values(segment=segment, offset=offset)


def compact_index(engine: sa.Engine, alone: bool) -> Iterator[Step]:
    """Gives free pages of the index back.

    Args:
        engine: the writer's.
        alone: whether nobody else needs the index meanwhile; one that was made before pages could be given back in
            steps is then rewritten as a whole.
    """
    mode = _pragma(engine, "auto_vacuum")
    if mode == 2:
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
