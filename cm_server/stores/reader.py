"""Reading a store: what the dashboard and the command line see. Any number of readers beside the one writer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa

from cm_server.report import (
    Alert,
    ConceptMap,
    Gap,
    LayerArrays,
    LayerReport,
    LayerSummary,
    RunInfo,
    Scalars,
    SeriesPoint,
    SnapshotInfo,
    Trail,
    UnitHistory,
)
from cm_server.stores import epochs, schema
from cm_server.stores.dialect import text_of
from cm_server.stores.errors import MissingBytesError, StoreError
from cm_server.stores.lineage import Epoch
from cm_server.stores.listed import ListedFiles
from cm_server.stores.opening import open_engine
from cm_server.stores.pictures import PictureReader
from cm_server.stores.seals import seal_of
from cm_server.stores.segments import extent_of, read_record
from cm_server.stores.unit_rows import Place, unit_columns

T = TypeVar("T")

logger = logging.getLogger(__name__)


class StoreReader:
    """Read-only view of a store's folder; safe to use from several threads.

    Raises:
        StoreError: there is no store, or it is of another schema version.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._engine = open_engine(self.directory, writer=False)
        self.pictures = PictureReader(self.directory, self._engine)
        self._listed = ListedFiles(self.directory, self._engine)

    def close(self) -> None:
        """Closes the index."""
        self._engine.dispose()

    def connection(self) -> AbstractContextManager[sa.Connection]:
        """A connection that only reads, for what has tables and a module of its own (`DeliveryReader`)."""
        return self._engine.connect()

    def runs(self) -> list[RunInfo]:
        """All runs, newest first."""
        return [_run(row) for row in self._rows(sa.select(schema.runs).order_by(schema.runs.c.created.desc()))]

    def run(self, run: str) -> RunInfo | None:
        """One run, or None."""
        rows = self._rows(sa.select(schema.runs).where(schema.runs.c.run == run))
        return _run(rows[0]) if rows else None

    def layers(self, run: str) -> list[tuple[str, int]]:
        """The captured layers and their unit counts, in the network's order."""
        table = schema.layers
        rows = self._rows(sa.select(table).where(table.c.run == run).order_by(table.c.position))
        return [(row["layer"], row["units"]) for row in rows]

    def snapshots(self, run: str, after: int = 0) -> list[SnapshotInfo]:
        """The run's snapshots with a sequence number above ``after``, by step.

        What a resumed process superseded (`stores.lineage`) is in none of the reader's answers.
        """
        table = schema.snapshots
        query = sa.select(table).where(table.c.run == run, table.c.sequence > after)
        query = query.where(self._current(run, table)).order_by(table.c.step, table.c.sequence)
        return [SnapshotInfo(**row) for row in self._rows(query)]

    def newest_sequence(self) -> int:
        """The sequence number of the newest snapshot of all runs; 0 while there is none."""
        return int(self._rows(sa.select(sa.func.max(schema.snapshots.c.sequence).label("n")))[0]["n"] or 0)

    def grown(self, after: int) -> list[str]:
        """Runs with snapshots of a sequence number above ``after``."""
        table = schema.snapshots.c
        return [row["run"] for row in self._rows(sa.select(table.run).where(table.sequence > after).distinct())]

    def epochs(self, run: str) -> list[Epoch]:
        """The training processes of a run, oldest first."""
        with self._engine.connect() as connection:
            return epochs.read(connection, run)

    def series(self, run: str, layer: str | None = None, after: int = 0) -> dict[str, list[SeriesPoint]]:
        """Summaries per layer with a sequence number above ``after``, by step; without those that are damaged."""
        table, when = schema.layer_reports, schema.snapshots
        query = (
            sa.select(
                table.c.sequence,
                table.c.layer,
                table.c.step,
                table.c.run,
                table.c.seal,
                text_of(table.c.summary).label("summary"),
                when.c.captured_at,
                when.c.committed_at,
                when.c.epoch,
                (table.c.segment != "").label("units"),
            )
            .join(when, when.c.sequence == table.c.sequence)
            .where(table.c.run == run, table.c.sequence > after, self._current(run, when))
            .order_by(table.c.step, table.c.sequence)
        )
        if layer is not None:
            query = query.where(table.c.layer == layer)
        found: dict[str, list[SeriesPoint]] = {name: [] for name, _ in self.layers(run) if layer in (None, name)}
        for row in self._rows(query):
            if row["seal"] not in (None, seal_of(row)):
                logger.warning("%s: it is left out", _unsealed(row))
                continue
            summary = _summary(json.loads(row["summary"]))
            when_at = (row["captured_at"], summary, row["committed_at"], row["epoch"], row["units"])
            found.setdefault(row["layer"], []).append(SeriesPoint(row["sequence"], row["step"], *when_at))
        return found

    def report(self, run: str, layer: str, step: int | None = None) -> tuple[SnapshotInfo, LayerReport] | None:
        """One layer's report at the last snapshot not after ``step`` (None: the newest) whose arrays are stored.

        Returns:
            Which snapshot that is, and its report; None if there is none.

        Raises:
            StoreError: its bytes are missing or damaged.
        """
        return self._again(lambda: self._report(run, layer, step))

    def _report(self, run: str, layer: str, step: int | None) -> tuple[SnapshotInfo, LayerReport] | None:
        table, when = schema.layer_reports, schema.snapshots
        query = sa.select(table).join(when, when.c.sequence == table.c.sequence)
        query = query.where(table.c.run == run, table.c.layer == layer, table.c.segment != "", self._current(run, when))
        if step is not None:
            query = query.where(table.c.step <= step)
        rows = self._rows(query.order_by(table.c.step.desc(), table.c.sequence.desc()).limit(1))
        if not rows:
            return None
        if rows[0]["seal"] not in (None, seal_of(rows[0])):
            raise StoreError(
                f"{_unsealed(rows[0])}; restore the store from a backup, or look at `concept-monitor runs verify`"
            )
        arrays = read_record(self.directory / "segments", extent_of(rows[0]))
        info = self._rows(sa.select(when).where(when.c.sequence == rows[0]["sequence"]))[0]
        texts = self._descriptions(rows[0]["sequence"], layer)
        return SnapshotInfo(**info), LayerReport(_summary(rows[0]["summary"]), LayerArrays(**arrays), texts)

    def _descriptions(self, sequence: int, layer: str) -> tuple[str, ...]:
        table = schema.layer_descriptions
        rows = self._rows(sa.select(table.c.texts).where(table.c.sequence == sequence, table.c.layer == layer))
        return tuple(rows[0]["texts"]) if rows else ()

    def trail(self, run: str, layer: str, unit: int, until: int | None = None, after: int = 0) -> Trail:
        """One unit through the run, up to and with step ``until``, from snapshots with a sequence above ``after``.

        Raises:
            StoreError: the layer has no such unit.
        """
        found = self._unit(run, layer, unit, ("positions", "concepts", "similarities", "shift"), until, after)
        return Trail(
            steps=found["steps"],
            positions=found["positions"],
            concepts=found["concepts"][:, 0],
            similarities=found["similarities"][:, 0],
            shift=found["shift"],
        )

    def unit_history(self, run: str, layer: str, unit: int) -> UnitHistory:
        """All that is stored of one unit, at every snapshot of the run whose arrays are there.

        Raises:
            StoreError: the layer has no such unit.
        """
        names = [f.name for f in fields(UnitHistory) if f.name not in ("sequences", "steps", "times")]
        return UnitHistory(**self._unit(run, layer, unit, names))

    def _unit(
        self, run: str, layer: str, unit: int, names: Sequence[str], until: int | None = None, after: int = 0
    ) -> dict[str, np.ndarray]:
        """Sequence numbers, steps, times and the unit's rows of some arrays, by step."""
        table, when = schema.layer_reports, schema.snapshots
        arrays = text_of(table.c.arrays)  # parsed once, not once a snapshot
        query = sa.select(table.c.sequence, table.c.step, when.c.captured_at, table.c.segment, table.c.offset, arrays)
        query = query.join(when, when.c.sequence == table.c.sequence)
        query = query.where(table.c.run == run, table.c.layer == layer, self._current(run, when))
        if after:
            query = query.where(table.c.sequence > after)
        if until is not None:
            query = query.where(table.c.step <= until)
        query = query.order_by(table.c.step, table.c.sequence)
        return self._again(lambda: unit_columns(self.directory / "segments", self._places(query), names, unit))

    def _places(self, query: sa.Select) -> list[Place]:
        with self._engine.connect() as connection:
            return list(map(Place._make, connection.execute(query)))

    def _again(self, read: Callable[[], T]) -> T:
        """What ``read`` gives; once more where a compaction moved the bytes after the look into the index."""
        try:
            return read()
        except MissingBytesError:
            return read()

    def scalars(self, run: str, after: int = 0) -> tuple[dict[str, Scalars], int]:
        """Logged quantities by name, and the row number to pass as ``after`` next time."""
        table = schema.scalars
        query = sa.select(table).where(table.c.run == run, table.c.id > after, self._current(run, table))
        query = query.order_by(table.c.id)
        rows = self._rows(query)
        names = sorted({row["name"] for row in rows})
        # By step: what an earlier process left on its disk may come after what a later one said.
        found = {name: sorted((r for r in rows if r["name"] == name), key=itemgetter("step")) for name in names}
        return {
            name: Scalars(
                name,
                np.array([row["step"] for row in mine], dtype=np.int64),
                np.array([_number(row["value"]) for row in mine], dtype=np.float64),
                np.array([row["time"] for row in mine], dtype=np.float64),
            )
            for name, mine in found.items()
        }, (rows[-1]["id"] if rows else after)

    def alerts(self, run: str | None = None) -> list[Alert]:
        """Alerts of one run or of all, newest first."""
        query = sa.select(schema.alerts).order_by(schema.alerts.c.id.desc())
        if run is not None:
            query = query.where(schema.alerts.c.run == run)
        rows: list[dict[str, Any]] = [{**row, "value": _number(row["value"])} for row in self._rows(query)]
        return [Alert(**row) for row in rows]

    def gaps(self, run: str, after: int = 0) -> list[Gap]:
        """Captures that did not become snapshots, with an id above ``after``, in the order in which they were noted."""
        table = schema.gaps
        query = sa.select(table).where(table.c.run == run, table.c.id > after, self._current(run, table))
        rows = self._rows(query.order_by(table.c.id))
        return [Gap(row["run"], row["step"], row["time"], row["reason"], row["id"]) for row in rows]

    def newest_gap(self) -> int:
        """The id of the newest gap of all runs, 0 while there is none: whether it pays to ask for a run's."""
        with self._engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT max(id) FROM gaps").scalar() or 0)

    def concept_map(self, run: str) -> ConceptMap | None:
        """The run's frozen map of the words; None while it is not fitted yet.

        Raises:
            StoreError: it is damaged.
        """
        info = self.run(run)
        if info is None or not info.map_fingerprint:
            return None
        return _load_map(self, info.map_fingerprint, info.concept_fingerprint)

    def text(self, map_fingerprint: str) -> np.ndarray | None:
        """Embeddings of a map's words ``[K, D]``, unit rows; None in a store that an older server wrote."""
        path = self._listed.path(f"maps/{map_fingerprint}.npz") if map_fingerprint.isalnum() else None
        return None if path is None else _load_text(path, path.stat().st_mtime_ns)

    def steps_with(self, run: str, layer: str, array: str) -> list[tuple[int, int]]:
        """Sequence number and step of the layer's reports that hold an array, by step; no array is read."""
        table, when = schema.layer_reports, schema.snapshots
        query = sa.select(table.c.sequence, table.c.step, table.c.arrays)
        query = query.join(when, when.c.sequence == table.c.sequence)
        query = query.where(table.c.run == run, table.c.layer == layer, self._current(run, when))
        rows = self._rows(query.order_by(table.c.step, table.c.sequence))
        return [(row["sequence"], row["step"]) for row in rows if any(s["name"] == array for s in row["arrays"])]

    def words(self, fingerprint: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words and categories of a concept set (empty string: category unknown)."""
        table = schema.concept_sets
        rows = self._rows(sa.select(table).where(table.c.fingerprint == fingerprint))
        if not rows:
            raise StoreError(f"the store has no concept set {fingerprint!r}")
        return tuple(rows[0]["words"]), tuple(rows[0]["categories"])

    def probe_image(self, fingerprint: str, sample: int) -> np.ndarray:
        """One image of a probe set, or of a stream capture's images: uint8 ``[H, W, 3]``.

        Raises:
            StoreError: the set is not stored, or has no such sample.
        """
        images = self.probe_images(fingerprint)
        if images is None:
            return self.pictures.image(fingerprint, sample)
        if not 0 <= sample < len(images):
            raise StoreError(f"probe set {fingerprint[:12]} has samples 0 to {len(images) - 1}, not {sample}")
        return np.asarray(images[sample])

    def probe_images(self, fingerprint: str) -> np.ndarray | None:
        """All images of a probe set, uint8 ``[N, H, W, 3]``, mapped and not copied; None if not stored.

        Raises:
            StoreError: they are damaged.
        """
        path = self._listed.path(f"probes/{fingerprint}.npy") if fingerprint.isalnum() else None
        return None if path is None else np.load(path, mmap_mode="r", allow_pickle=False)

    def probe_labels(self, fingerprint: str) -> tuple[np.ndarray, tuple[str, ...]] | None:
        """Class numbers int32 ``[N]`` and names of a probe set; None if it came without.

        Raises:
            StoreError: they are damaged.
        """
        path = self._listed.path(f"probes/{fingerprint}.labels.npz") if fingerprint.isalnum() else None
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as stored:
            return stored["numbers"], tuple(str(name) for name in stored["names"])

    def _current(self, run: str, table: sa.Table) -> sa.ColumnElement:
        with self._engine.connect() as connection:
            return epochs.current(connection, run, table.c.epoch, table.c.step)

    def _rows(self, query: sa.Select) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


@lru_cache(maxsize=8)
def _load_map(reader: StoreReader, fingerprint: str, concepts: str) -> ConceptMap | None:
    words, categories = reader.words(concepts)
    path = reader._listed.path(f"maps/{fingerprint}.npz")
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as stored:
        x0, x1, y0, y1 = (float(v) for v in stored["extent"])
        return ConceptMap(
            words, categories, stored["positions"], stored["anchors"], (x0, x1, y0, y1), str(stored["method"])
        )


@lru_cache(maxsize=4)
def _load_text(path: Path, _written: int) -> np.ndarray | None:
    with np.load(path, allow_pickle=False) as stored:
        return stored["text"] if "text" in stored.files else None


def _run(row: dict[str, Any]) -> RunInfo:
    title, tags = row.pop("title"), tuple(row.pop("tags"))
    return RunInfo(**{**row, "name": title or row["name"]}, tags=tags)


def _summary(values: dict[str, Any]) -> LayerSummary:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
    return LayerSummary(**known)


def _unsealed(row: dict[str, Any]) -> str:
    about = f"run {row['run']!r}, step {row['step']}, layer {row['layer']!r}"
    return f"index.sqlite is damaged: the checksum of {about} does not match"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
