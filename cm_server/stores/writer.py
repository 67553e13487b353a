"""The one writer of a store: arrays first, synced; then one transaction that proves they exist."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cm_server.fault_points import reach
from cm_server.report import Alert, ConceptMap, SnapshotReport
from cm_server.stores import epochs, schema
from cm_server.stores.compaction import Step, compact_index
from cm_server.stores.dialect import insert, plainly
from cm_server.stores.durable import AtomicFile, make_folder, sync_folder
from cm_server.stores.errors import StoreError, StoreInUseError, cannot_open
from cm_server.stores.opening import open_engine
from cm_server.stores.pictures import PictureWriter
from cm_server.stores.segments import Extent, SegmentWriter, Syncer
from cm_server.stores.snapshot_rows import KnownCaptures, add_layers, add_snapshot, finite_fields

_TRIED_BYTES = 64 * 1024
_MOST_OPEN = 512
"""Segments of so many runs are open at most: a server sees any number of runs, and may open only so many files."""
ScalarRow = tuple[int, int, float, Mapping[str, float | None]]
"""Number, step, time and values by name."""
# In the driver's own words: tens of thousands of rows a second leave no time for dictionaries.
_ADD_SCALAR = """INSERT INTO scalars (run, epoch, number, name, step, time, value) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""
_FORGET_GAP = "DELETE FROM gaps WHERE run = ? AND epoch = ? AND capture = ?"


class StoreWriter:
    """Writes runs, snapshots, scalars and alerts into a folder.

    Args:
        directory: made if it does not exist.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        _check_writable(self.directory)
        self._lock = lock_folder(self.directory)
        self._together: sa.Connection | None = None
        self._segments: dict[str, SegmentWriter] = {}
        self._known, self._syncer = KnownCaptures(), Syncer()
        try:
            self._engine = open_engine(self.directory, writer=True)
            sync_folder(self.directory)
            self.pictures = PictureWriter(self.directory, self.transaction)
        except StoreError:
            self._lock.close()
            raise
        except (OSError, DBAPIError) as error:
            self._lock.close()
            raise cannot_open(self.directory, error) from None

    def close(self) -> None:
        """Closes files and the index."""
        for segment in self._segments.values():
            segment.close()
        self._syncer.close()
        self.pictures.close()
        self._engine.dispose()
        self._lock.close()

    def writing(self, run: str) -> str:
        """The segment that a run's arrays are appended to now; empty if none is open."""
        return self._segments[run].name if run in self._segments else ""

    def release(self, run: str) -> None:
        """Closes a run's segment; its next snapshot begins another."""
        if run in self._segments:
            self._segments.pop(run).close()

    def compact_index(self, alone: bool) -> Iterator[Step]:
        """Gives free pages of the index back; see `compaction.compact_index`."""
        return compact_index(self._engine, alone)

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """One transaction, for what has tables and a module of its own beside this one (`DeliveryWriter`)."""
        return nullcontext(self._together) if self._together is not None else self._engine.begin()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything written inside is one transaction: all of it is there after a crash, or nothing."""
        if self._together is not None:
            yield
            return
        with self._engine.begin() as self._together:
            try:
                yield
                reach("before-commit")
            finally:
                self._together = None

    def try_out(self) -> None:
        """Writes a little to the index and to a file, and syncs both.

        Raises:
            OSError, sqlalchemy.exc.DBAPIError: the store cannot be written (again).
        """
        row = {"key": "tried", "value": str(time.time())}
        with self.transaction() as connection:
            statement = insert(connection, schema.meta).values(**row)
            connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=row))
        with tempfile.TemporaryFile(dir=self.directory) as file:
            file.write(b"\0" * _TRIED_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def save_run(self, run: str, **values: object) -> None:
        """Inserts the run, or changes the given columns of it."""
        now = time.time()
        change = values | {"updated": now}
        plain = [json.dumps(value) if isinstance(value, dict | list | tuple) else value for value in change.values()]
        with self.transaction() as connection:
            if plainly(connection, _change_run(tuple(change)), (*plain, run)).rowcount:
                return
            fresh = {"name": run, "state": "waiting", "created": now} | change | {"run": run}
            connection.execute(sa.insert(schema.runs).values(**fresh))

    def save_layers(self, run: str, layers: Sequence[tuple[str, int]]) -> None:
        """Records which layers the run captures, in the network's order, with their unit counts."""
        rows = [{"run": run, "layer": n, "position": i, "units": m} for i, (n, m) in enumerate(layers)]
        with self.transaction() as connection:
            connection.execute(sa.delete(schema.layers).where(schema.layers.c.run == run))
            if rows:
                connection.execute(sa.insert(schema.layers), rows)

    def has_capture(self, run: str, epoch: str, capture: int) -> bool:
        """Whether this capture is already committed (a client sends again what it saw no ack for)."""
        return self._known.has(self.transaction, run, epoch, capture)

    def commit_snapshot(self, report: SnapshotReport) -> int:
        """Stores one report, whole or not at all.

        Returns:
            The snapshot's sequence number, growing over all runs.
        """
        return self.commit_snapshots([report])[0]

    def commit_snapshots(self, reports: Sequence[SnapshotReport]) -> list[int]:
        """Stores reports of several runs, all or none, for hardly more waiting on the disk than one takes.

        Returns:
            The snapshots' sequence numbers.
        """
        extents = [self._append(report) for report in reports]
        self._syncer.sync([self._segments[run] for run in {report.run: 0 for report in reports}])
        with self.transaction() as connection:
            return [self._insert(connection, report, at) for report, at in zip(reports, extents, strict=True)]

    def _append(self, report: SnapshotReport) -> dict[str, Extent]:
        segments = self._segments.pop(report.run, None) or SegmentWriter(self.directory / "segments", report.run)
        self._segments[report.run] = segments  # the last one used
        if len(self._segments) > _MOST_OPEN:
            self.release(next(iter(self._segments)))
        return {name: segments.append(layer.arrays.named()) for name, layer in report.layers.items()}

    def _insert(self, connection: sa.Connection, report: SnapshotReport, extents: Mapping[str, Extent]) -> int:
        self._known.added(report.run, report.epoch, report.capture)
        sequence = add_snapshot(connection, report)
        reach("snapshot-inserted")
        epochs.note(connection, report.run, report.epoch, report.step, report.step)
        _forget_gap(connection, report.run, report.epoch, report.capture)
        add_layers(connection, sequence, report, extents)
        reach("layers-inserted")
        return sequence

    def add_scalars(self, run: str, epoch: str, rows: Iterable[ScalarRow]) -> None:
        """Stores logged quantities.

        Args:
            run: run id.
            epoch: the client's epoch; with ``number`` it makes a row unique, so a resend changes nothing.
            rows: tuples (number, step, time, values by name); None stands for NaN or infinity.
        """
        self.add_scalars_of([(run, epoch, list(rows))])

    def add_scalars_of(self, batches: Sequence[tuple[str, str, Sequence[ScalarRow]]]) -> None:
        """`add_scalars` of several runs in one transaction: tuples (run, epoch, rows)."""
        values = [
            (run, epoch, number, name, step, at, value)
            for run, epoch, rows in batches
            for number, step, at, named in rows
            for name, value in named.items()
        ]
        if not values:
            return
        told = [(run, epoch, [row[1] for row in rows]) for run, epoch, rows in batches if rows]
        with self.transaction() as connection:
            plainly(connection, _ADD_SCALAR, values)
            reach("scalars-inserted")
            epochs.note_all(connection, [(run, epoch, min(steps), max(steps)) for run, epoch, steps in told])

    def add_gap(self, run: str, step: int, reason: str, epoch: str = "", capture: int | None = None) -> None:
        """Records that a capture did not become a snapshot, and why; once where ``epoch`` and ``capture`` say which."""
        row = {"run": run, "step": step, "time": time.time(), "reason": reason, "epoch": epoch, "capture": capture}
        with self.transaction() as connection:
            if capture is not None:
                _forget_gap(connection, run, epoch, capture)
            connection.execute(sa.insert(schema.gaps), row)
        reach("gap-committed")

    def begin_epoch(self, run: str, epoch: str, begun: float, start_step: int | None, late: bool = False) -> None:
        """Records a training process of a run once; see `epochs.begin`."""
        with self.transaction() as connection:
            epochs.begin(connection, run, epoch, begun, start_step, late)

    def end_epoch(self, run: str, epoch: str, state: str) -> None:
        """Records how a training process ended."""
        with self.transaction() as connection:
            epochs.end(connection, run, epoch, state)

    def save_alert(self, alert: Alert) -> int:
        """Inserts (id 0) or updates an alert; returns its id."""
        row = asdict(alert)
        row["value"] = alert.value if np.isfinite(alert.value) else None
        row["details"] = finite_fields(alert.details)
        key = row.pop("id")
        with self.transaction() as connection:
            if not key:
                key = _new_key(connection, schema.alerts, row)
            else:
                connection.execute(sa.update(schema.alerts).where(schema.alerts.c.id == key).values(**row))
            reach("alert-inserted")
            return key

    def save_concept_set(self, fingerprint: str, name: str, words: Sequence[str], categories: Sequence[str]) -> None:
        """Stores a concept set once; the fingerprint is its identity."""
        row = {"fingerprint": fingerprint, "name": name, "words": list(words), "categories": list(categories)}
        with self.transaction() as connection:
            connection.execute(insert(connection, schema.concept_sets).values(**row).on_conflict_do_nothing())

    def save_map(self, fingerprint: str, layout: ConceptMap, text: np.ndarray | None = None) -> None:
        """Stores the frozen map of the words once, with their embeddings ``[K, D]`` where they are given."""
        arrays: dict[str, Any] = {
            "positions": layout.positions.astype(np.float32),
            "anchors": layout.anchors.astype(np.int32),
            "extent": np.asarray(layout.extent, dtype=np.float64),
            "method": np.asarray(layout.method),
        }
        if text is not None:
            arrays["text"] = text.astype(np.float32)
        with self._listed(f"maps/{fingerprint}.npz") as file:
            np.savez(file, **arrays)

    def save_probe_images(self, fingerprint: str, images: np.ndarray) -> None:
        """Stores the probe images, uint8 ``[N, H, W, 3]``, once."""
        with self._listed(f"probes/{fingerprint}.npy") as file:
            np.save(file, images)
        reach("probe-stored")

    def save_probe_labels(self, fingerprint: str, numbers: np.ndarray, names: Sequence[str]) -> None:
        """Stores a probe set's class labels: int32 ``[N]`` and the classes' names."""
        with self._listed(f"probes/{fingerprint}.labels.npz") as file:
            np.savez(file, numbers=numbers.astype(np.int32), names=np.asarray(names, dtype=np.str_))

    @contextmanager
    def _listed(self, name: str) -> Iterator[BinaryIO]:
        """A whole file, whose checksum is in the index."""
        whole = AtomicFile(self.directory / name)
        with whole as file:
            yield file
        row = {"path": name, "length": whole.length, "crc32": whole.crc32}
        with self.transaction() as connection:
            statement = insert(connection, schema.files).values(**row)
            connection.execute(statement.on_conflict_do_update(index_elements=["path"], set_=row))


def _forget_gap(connection: sa.Connection, run: str, epoch: str, capture: int) -> None:
    plainly(connection, _FORGET_GAP, (run, epoch, capture))


@lru_cache(maxsize=64)
def _change_run(columns: tuple[str, ...]) -> str:
    return f"UPDATE runs SET {', '.join(f'{schema.runs.c[name].name} = ?' for name in columns)} WHERE run = ?"


def _new_key(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> int:
    key = connection.execute(sa.insert(table), row).inserted_primary_key
    assert key is not None  # one row was inserted
    return int(key[0])


def lock_folder(directory: Path) -> BinaryIO:
    """Keeps other servers off the store as long as the returned file is open; the system lets go if we are killed."""
    lock = (directory / "writer.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreInUseError(
            f"the store {directory} is in use by another server: stop that one, or choose another folder with --store"
        ) from None
    return lock


def _check_writable(directory: Path) -> None:
    try:
        make_folder(directory)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise StoreError(
            f"the store {directory} is not writable ({error.strerror}): choose another folder with --store, "
            "or change its permissions"
        ) from None
