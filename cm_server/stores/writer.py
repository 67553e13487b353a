"""The one writer of a store: arrays first, synced; then one transaction that proves they exist."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from cm_server.report import Alert, ConceptMap, SnapshotReport
from cm_server.stores import epochs, schema
from cm_server.stores.errors import StoreError, StoreInUseError
from cm_server.stores.pictures import PictureWriter
from cm_server.stores.segments import SegmentWriter


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
        self._lock = _locked(self.directory)
        self._engine = schema.open_engine(self.directory, writer=True)
        self._segments: dict[str, SegmentWriter] = {}
        self.pictures = PictureWriter(self.directory, self._engine)

    def close(self) -> None:
        """Closes files and the index."""
        for segment in self._segments.values():
            segment.close()
        self.pictures.close()
        self._engine.dispose()
        self._lock.close()

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """One transaction, for what has tables and a module of its own beside this one (`DeliveryWriter`)."""
        return self._engine.begin()

    def save_run(self, run: str, **values: object) -> None:
        """Inserts the run, or changes the given columns of it."""
        now = time.time()
        fresh = {"name": run, "state": "waiting", "created": now} | values | {"run": run, "updated": now}
        change = values | {"updated": now}
        with self._engine.begin() as connection:
            statement = insert(schema.runs).values(**fresh)
            connection.execute(statement.on_conflict_do_update(index_elements=["run"], set_=change))

    def save_layers(self, run: str, layers: Sequence[tuple[str, int]]) -> None:
        """Records which layers the run captures, in the network's order, with their unit counts."""
        rows = [{"run": run, "layer": n, "position": i, "units": m} for i, (n, m) in enumerate(layers)]
        with self._engine.begin() as connection:
            connection.execute(sa.delete(schema.layers).where(schema.layers.c.run == run))
            if rows:
                connection.execute(sa.insert(schema.layers), rows)

    def has_capture(self, run: str, epoch: str, capture: int) -> bool:
        """Whether this capture is already committed (a client sends again what it saw no ack for)."""
        table = schema.snapshots.c
        query = sa.select(sa.literal(1)).where(table.run == run, table.epoch == epoch, table.capture == capture)
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def commit_snapshot(self, report: SnapshotReport) -> int:
        """Stores one report, whole or not at all.

        Returns:
            The snapshot's sequence number, growing over all runs.
        """
        segments = self._segments.get(report.run) or SegmentWriter(self.directory / "segments", report.run)
        self._segments[report.run] = segments
        extents = {name: segments.append(layer.arrays.named()) for name, layer in report.layers.items()}
        segments.sync()
        with self._engine.begin() as connection:
            sequence = _insert_snapshot(connection, report)
            epochs.note(connection, report.run, report.epoch, report.step, report.step)
            _forget_gap(connection, report.run, report.epoch, report.capture)
            for name, layer in report.layers.items():
                extent = asdict(extents[name])
                row = {"sequence": sequence, "layer": name, "run": report.run, "step": report.step}
                connection.execute(
                    sa.insert(schema.layer_reports), row | {"summary": _finite(asdict(layer.summary))} | extent
                )
                if layer.descriptions:
                    told = {"sequence": sequence, "layer": name, "texts": list(layer.descriptions)}
                    connection.execute(sa.insert(schema.layer_descriptions), told)
        return sequence

    def add_scalars(
        self, run: str, epoch: str, rows: Iterable[tuple[int, int, float, Mapping[str, float | None]]]
    ) -> None:
        """Stores logged quantities.

        Args:
            run: run id.
            epoch: the client's epoch; with ``number`` it makes a row unique, so a resend changes nothing.
            rows: tuples (number, step, time, values by name); None stands for NaN or infinity.
        """
        rows = list(rows)
        values = [
            {"run": run, "epoch": epoch, "number": number, "step": step, "time": at, "name": name, "value": value}
            for number, step, at, named in rows
            for name, value in named.items()
        ]
        if values:
            with self._engine.begin() as connection:
                connection.execute(insert(schema.scalars).on_conflict_do_nothing(), values)
                steps = [step for _, step, _, _ in rows]
                epochs.note(connection, run, epoch, min(steps), max(steps))

    def add_gap(self, run: str, step: int, reason: str, epoch: str = "", capture: int | None = None) -> None:
        """Records that a capture did not become a snapshot, and why; once where ``epoch`` and ``capture`` say which."""
        row = {"run": run, "step": step, "time": time.time(), "reason": reason, "epoch": epoch, "capture": capture}
        with self._engine.begin() as connection:
            if capture is not None:
                _forget_gap(connection, run, epoch, capture)
            connection.execute(sa.insert(schema.gaps), row)

    def begin_epoch(self, run: str, epoch: str, begun: float, start_step: int | None, late: bool = False) -> None:
        """Records a training process of a run once; see `epochs.begin`."""
        with self._engine.begin() as connection:
            epochs.begin(connection, run, epoch, begun, start_step, late)

    def end_epoch(self, run: str, epoch: str, state: str) -> None:
        """Records how a training process ended."""
        with self._engine.begin() as connection:
            epochs.end(connection, run, epoch, state)

    def save_alert(self, alert: Alert) -> int:
        """Inserts (id 0) or updates an alert; returns its id."""
        row = asdict(alert)
        row["value"] = alert.value if np.isfinite(alert.value) else None
        row["details"] = _finite(dict(alert.details))
        key = row.pop("id")
        with self._engine.begin() as connection:
            if not key:
                return _new_key(connection, schema.alerts, row)
            connection.execute(sa.update(schema.alerts).where(schema.alerts.c.id == key).values(**row))
            return key

    def save_concept_set(self, fingerprint: str, name: str, words: Sequence[str], categories: Sequence[str]) -> None:
        """Stores a concept set once; the fingerprint is its identity."""
        row = {"fingerprint": fingerprint, "name": name, "words": list(words), "categories": list(categories)}
        with self._engine.begin() as connection:
            connection.execute(insert(schema.concept_sets).values(**row).on_conflict_do_nothing())

    def save_map(self, fingerprint: str, layout: ConceptMap, text: np.ndarray | None = None) -> None:
        """Stores the frozen map of the words once, with their embeddings ``[K, D]`` where they are given."""
        path = self.directory / "maps" / f"{fingerprint}.npz"
        arrays: dict[str, Any] = {
            "positions": layout.positions.astype(np.float32),
            "anchors": layout.anchors.astype(np.int32),
            "extent": np.asarray(layout.extent, dtype=np.float64),
            "method": np.asarray(layout.method),
        }
        if text is not None:
            arrays["text"] = text.astype(np.float32)
        with _Atomic(path) as file:
            np.savez(file, **arrays)

    def save_probe_images(self, fingerprint: str, images: np.ndarray) -> None:
        """Stores the probe images, uint8 ``[N, H, W, 3]``, once."""
        with _Atomic(self.directory / "probes" / f"{fingerprint}.npy") as file:
            np.save(file, images)

    def save_probe_labels(self, fingerprint: str, numbers: np.ndarray, names: Sequence[str]) -> None:
        """Stores a probe set's class labels: int32 ``[N]`` and the classes' names."""
        with _Atomic(self.directory / "probes" / f"{fingerprint}.labels.npz") as file:
            np.savez(file, numbers=numbers.astype(np.int32), names=np.asarray(names, dtype=np.str_))


def _insert_snapshot(connection: sa.Connection, report: SnapshotReport) -> int:
    row = {
        "run": report.run,
        "capture": report.capture,
        "step": report.step,
        "captured_at": report.captured_at,
        "received_at": report.received_at,
        "committed_at": time.time(),
        "seconds": dict(report.seconds),
        "epoch": report.epoch,
        "probe_fingerprint": report.probe_fingerprint,
    }
    return _new_key(connection, schema.snapshots, row)


def _forget_gap(connection: sa.Connection, run: str, epoch: str, capture: int) -> None:
    gap = schema.gaps.c
    where = sa.and_(gap.run == run, gap.epoch == epoch, gap.capture == capture)
    connection.execute(sa.delete(schema.gaps).where(where))


def _new_key(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> int:
    key = connection.execute(sa.insert(table), row).inserted_primary_key
    assert key is not None  # one row was inserted
    return int(key[0])


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    """NaN and infinity become None: JSON has no such numbers."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}


def _locked(directory: Path) -> BinaryIO:
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
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise StoreError(
            f"the store {directory} is not writable ({error.strerror}): choose another folder with --store, "
            "or change its permissions"
        ) from None


class _Atomic:
    """A file that appears under its name only when it is complete and synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part = path.with_name(f".{path.name}.part")

    def __enter__(self):
        self._file = self._part.open("wb")
        return self._file

    def __exit__(self, kind, *_: object) -> None:
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            with suppress(OSError):
                self._part.unlink()
