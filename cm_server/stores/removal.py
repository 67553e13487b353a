"""Taking things out of a store: runs, and the arrays of snapshots. Rows first, in one transaction; then files.

A row is the proof that its bytes exist, so bytes go only after the rows that speak of them are gone for good. If the
process dies in between, files are left that no row speaks of; `runs compact` finds those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.archive import SEGMENTS, archive_of, free_archived
from cm_server.stores.segments import next_path

_AT_ONCE = 500
"""Values in one statement: SQLite bounds the number of variables."""
GIVEN_UP = {"segment": "", "offset": 0, "length": 0, "crc32": 0, "arrays": []}
"""What an index row says of arrays that are there no more."""


def delete_rows(connection: sa.Connection, run: str) -> None:
    """Deletes every row of a run, of whatever table: those that name the run, its snapshots or its alerts."""
    snapshots, alerts = schema.snapshots.c, schema.alerts.c
    of_run = sa.select(snapshots.sequence).where(snapshots.run == run), sa.select(alerts.id).where(alerts.run == run)
    named = [table for table in schema.metadata.sorted_tables if "run" in table.c]
    for table in schema.metadata.sorted_tables:
        for column, keys in zip(("sequence", "alert"), of_run, strict=True):
            if column in table.c and table not in named:
                connection.execute(sa.delete(table).where(table.c[column].in_(keys)))
    for table in named:
        connection.execute(sa.delete(table).where(table.c.run == run))


def give_up_arrays(connection: sa.Connection, run: str, sequences: Sequence[int]) -> None:
    """Lets go of the arrays and descriptions per unit of some snapshots; their summaries stay."""
    reports, told = schema.layer_reports, schema.layer_descriptions
    for some in _parts(sequences):
        connection.execute(sa.update(reports).where(reports.c.sequence.in_(some)).values(**GIVEN_UP))
        connection.execute(sa.delete(told).where(told.c.sequence.in_(some)))
    if sequences:  # what readers keep of the run holds no more
        runs = schema.runs
        connection.execute(sa.update(runs).where(runs.c.run == run).values(revision=runs.c.revision + 1))


def probe_sets(connection: sa.Connection, run: str) -> set[str]:
    """Fingerprints of the probe sets that a run was captured on."""
    runs, snapshots = schema.runs.c, schema.snapshots.c
    queries = (
        sa.select(runs.probe_fingerprint).where(runs.run == run),
        sa.select(snapshots.probe_fingerprint).where(snapshots.run == run).distinct(),
    )
    return {str(one) for query in queries for one in connection.execute(query).scalars()} - {""}


def unused(connection: sa.Connection, probes: Collection[str]) -> list[str]:
    """Those of some probe sets that no run has any more.

    Word lists and maps stay: they are small, runs share them, and a server that runs writes each of them only once.
    """
    runs, snapshots = schema.runs.c, schema.snapshots.c

    def used(one: str) -> bool:
        queries = (sa.select(table.run).where(table.probe_fingerprint == one) for table in (runs, snapshots))
        return any(connection.execute(query.limit(1)).first() for query in queries)

    return [one for one in sorted(probes) if not used(one)]


def forget_probes(connection: sa.Connection, probes: Collection[str]) -> None:
    """Deletes what the index says of the files of some probe sets, which are about to go (`free_run`)."""
    files = schema.files
    connection.execute(sa.delete(files).where(files.c.path.in_(_files_of(probes))))


def _files_of(probes: Collection[str]) -> list[str]:
    return [f"probes/{one}{end}" for one in probes if one.isalnum() for end in (".npy", ".labels.npz")]


def live_segments(connection: sa.Connection, table: sa.Table, only: sa.ColumnElement[bool]) -> dict[str, int]:
    """Bytes in use by segment, as the rows tell that ``only`` chooses."""
    query = sa.select(table.c.segment, sa.func.sum(table.c.length)).where(only, table.c.segment != "")
    return {str(name): int(length) for name, length in connection.execute(query.group_by(table.c.segment))}


def free_segments(root: Path, run: str, live: Collection[str]) -> int:
    """Removes a run's segments that no row speaks of.

    Args:
        root: folder of all runs' segments.
        run: run id.
        live: segments that rows speak of, and the one that is written.

    Returns:
        Bytes freed.
    """
    folder = root / run
    dead = [path for path in sorted(folder.glob("*.seg")) if path.relative_to(root).as_posix() not in live]
    if dead and dead[-1].name == max(path.name for path in folder.glob("*.seg")):
        if not dead[-1].stat().st_size:
            dead.pop()
        else:
            next_path(folder).touch()  # keeps the count: a name never means two files
    return sum(map(_removed, dead))


def free_run(directory: Path, run: str, probes: Collection[str]) -> int:
    """Removes a deleted run's segments, and the images of probe sets that only it had.

    Returns:
        Bytes freed.
    """
    folder = directory / SEGMENTS / run
    freed = sum(map(_removed, sorted(folder.glob("*")))) if folder.is_dir() else 0
    with suppress(OSError):
        folder.rmdir()
    freed += free_archived(archive_of(directory), run, ())
    return freed + sum(_removed(directory / name) for name in _files_of(probes))


def _removed(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError:
        return 0
    return size


def _parts(values: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(values), _AT_ONCE):
        yield list(values[start : start + _AT_ONCE])
