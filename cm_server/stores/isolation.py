"""Taking what is damaged out of sight: a damaged snapshot becomes a recorded gap, a damaged file is asked for again."""

from __future__ import annotations

import time
from collections.abc import Iterable

import sqlalchemy as sa

from cm_server.stores import schema
from cm_server.stores.verify import Damage
from cm_server.stores.writer import StoreWriter

REASON = "its record in the store was damaged"


def isolate(writer: StoreWriter, damages: Iterable[Damage]) -> int:
    """Isolates each damage that is not of the index's own structure; whole snapshots, for their layers belong together.

    Args:
        writer: the store, which no server may be writing.
        damages: what `verify` found.

    Returns:
        How many damages were isolated.
    """
    found = [damage for damage in damages if damage.kind != "index"]
    for damage in found:
        with writer.transaction() as connection:
            if damage.kind == "image":
                connection.execute(sa.delete(schema.images).where(schema.images.c.key == damage.key))
            elif damage.kind == "file":
                connection.execute(sa.delete(schema.files).where(schema.files.c.path == damage.key))
            else:
                _remove_snapshot(connection, int(damage.key))
        if damage.kind == "file" and (path := writer.directory / damage.key).exists():
            path.replace(path.with_name(path.name + ".damaged"))
    return len(found)


def _remove_snapshot(connection: sa.Connection, sequence: int) -> None:
    snapshots = schema.snapshots
    row = connection.execute(sa.select(snapshots).where(snapshots.c.sequence == sequence)).mappings().first()
    for table in (schema.layer_reports, schema.layer_descriptions, snapshots):
        connection.execute(sa.delete(table).where(table.c.sequence == sequence))
    if row is None:
        return
    about = {name: row[name] for name in ("run", "step", "epoch", "capture")}
    connection.execute(sa.insert(schema.gaps), about | {"time": time.time(), "reason": REASON})
    runs = schema.runs
    connection.execute(sa.update(runs).where(runs.c.run == row["run"]).values(revision=runs.c.revision + 1))
