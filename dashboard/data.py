"""Reads the store into what the pages need, with small caches: one query per change, however many tabs ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from cm_server.anchors import UserAnchor
from cm_server.notices import Acknowledgement, Silence
from cm_server.report import Alert, ConceptMap, Gap, LayerReport, RunInfo, Scalars, SeriesPoint, SnapshotInfo, Trail
from cm_server.stores.anchors import AnchorReader
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.errors import StoreError
from cm_server.stores.location import has_index
from cm_server.stores.reader import StoreReader
from dashboard.drawn import Drawn

EVERYTHING = "*"
"""As a run: anything may have changed."""
MAX_AGE_SECONDS = 2.0
"""Read again after this long even if no event came: the server may be gone while the store still changes."""


@dataclass(frozen=True)
class RunData:
    """Everything of one run that is not an array per unit."""

    info: RunInfo
    layers: tuple[tuple[str, int], ...]
    series: Mapping[str, list[SeriesPoint]]
    scalars: Mapping[str, Scalars]
    alerts: list[Alert]
    gaps: list[Gap]
    acknowledged: Mapping[int, Acknowledgement] = field(default_factory=dict)
    silences: Sequence[Silence] = ()
    anchors: Sequence[UserAnchor] = ()

    def layer(self, wanted: str | None) -> str | None:
        """The layer to show: the wanted one if it was captured, else the last."""
        names = [name for name, _ in self.layers] or list(self.series)
        if wanted in names:
            return wanted
        return names[-1] if names else None

    def at(self, layer: str | None, step: int | None) -> SeriesPoint | None:
        """The layer's last point not after ``step`` (None: the newest); its first, if ``step`` is before all."""
        points = self.series.get(layer or "", [])
        if not points:
            return None
        if step is None:
            return points[-1]
        before = (p for p in points if p.step <= step)  # a resumed run may repeat steps: the later snapshot counts
        return max(before, key=lambda p: (p.step, p.sequence), default=points[0])

    def longest(self) -> list[SeriesPoint]:
        """The series of the layer with the most points."""
        return max(self.series.values(), key=len, default=[])


@dataclass
class _Entry:
    data: RunData
    version: int
    read_at: float
    sequence: int = 0
    scalar_row: int = 0
    series: dict[str, list[SeriesPoint]] = field(default_factory=dict)
    scalars: dict[str, Scalars] = field(default_factory=dict)


class Source:
    """The store as the dashboard sees it; safe to use from several threads.

    Args:
        directory: the store's folder; it may not exist yet.
        version: grows when something of a run changed, or of any run if asked for ``*`` (the feed's); answers are
            kept while it stays.
    """

    def __init__(self, directory: Path, version: Callable[[str], int]) -> None:
        self.directory = Path(directory)
        self._version = version
        self.hears_server: Callable[[], bool] = lambda: False
        """Whether the server was heard lately; the app sets it."""
        self._reader: StoreReader | None = None
        self._runs: dict[str, _Entry] = {}
        self._listed: tuple[int, float, list[RunInfo]] = (-1, 0.0, [])
        self._reports: _Cache = _Cache(64)
        self._trails: _Cache = _Cache(64)
        self._lock = threading.RLock()
        self.drawn = Drawn()
        """Drawings that tabs share."""
        self.reads = 0
        """How often a run was read from the store."""

    def reader(self) -> StoreReader | None:
        """The store's reader; None while there is no store."""
        with self._lock:
            if self._reader is None and has_index(self.directory):
                try:
                    self._reader = StoreReader(self.directory)
                except StoreError:
                    raise
                except Exception as error:  # the server is just making the tables
                    if "no such table" not in str(error):
                        raise
            return self._reader

    def runs(self) -> list[RunInfo]:
        """All runs, newest first; none while there is no store."""
        reader = self.reader()
        if reader is None:
            return []
        with self._lock:
            version, (known, read_at, found) = self._version(EVERYTHING), self._listed
            if known != version or time.monotonic() - read_at >= MAX_AGE_SECONDS:
                found = reader.runs()
                self._listed = version, time.monotonic(), found
            return found

    def run(self, run: str | None) -> RunData | None:
        """One run; None if the store does not have it."""
        reader = self.reader()
        if reader is None or run is None:
            return None
        with self._lock:
            version, entry = self._version(run), self._runs.get(run)
            fresh = entry is not None and entry.version == version
            if entry is not None and fresh and time.monotonic() - entry.read_at < MAX_AGE_SECONDS:
                return entry.data
            entry = self._read(reader, run, entry, version)
            if entry is None:
                self._runs.pop(run, None)
                return None
            self._runs[run] = entry
            return entry.data

    def forget(self, run: str | None) -> None:
        """Something was ordered for a run: it is read anew when it is next asked for."""
        with self._lock:
            entry = self._runs.get(run or "")
            if entry is not None:
                entry.version = -1

    def report(self, run: RunData, layer: str, step: int | None) -> tuple[SnapshotInfo, LayerReport] | None:
        """One layer's units at the last snapshot not after ``step`` (None: the newest)."""
        reader, point = self.reader(), run.at(layer, step)
        if reader is None or point is None:
            return None
        key = (run.info.run, layer, point.sequence)
        return self._reports.get(key, lambda: reader.report(run.info.run, layer, point.step))

    def trail(self, run: RunData, layer: str, unit: int, step: int | None) -> Trail | None:
        """One unit's way up to ``step``; None if the layer has no such unit."""
        reader, point = self.reader(), run.at(layer, step)
        width = dict(run.layers).get(layer, 0)
        if reader is None or point is None or not 0 <= unit < width:
            return None
        with self._lock:
            whole = self._whole_trail(reader, run, layer, unit)
        return _until(whole, point.step)

    def _whole_trail(self, reader: StoreReader, run: RunData, layer: str, unit: int) -> Trail:
        """The unit's trail up to the newest snapshot; only snapshots that are new to it are read."""
        key = (run.info.run, *_moment(run.info), layer, unit)
        newest = run.series[layer][-1].sequence
        known, trail = self._trails.get(key, lambda: (0, None))
        if newest > known:
            more = reader.trail(run.info.run, layer, unit, after=known)
            whole = more if trail is None else _appended(trail, more)
            # A snapshot may have been committed since the series was read: it belongs to the next time.
            trail = _part(whole, slice(0, len(run.series[layer])))
            self._trails.put(key, (newest, trail))
        return trail

    def concept_map(self, run: RunData) -> ConceptMap | None:
        """The run's frozen map of the words; None while it is not fitted."""
        reader, info = self.reader(), run.info
        if reader is None or not info.map_fingerprint:
            return None
        key = ("map", info.map_fingerprint, info.concept_fingerprint)
        return self._trails.get(key, lambda: reader.concept_map(info.run))

    def words(self, run: RunData) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words and categories of the run's concept set; empty while there is none."""
        reader = self.reader()
        if reader is None or not run.info.concept_fingerprint:
            return (), ()
        return self._trails.get(
            ("words", run.info.concept_fingerprint), lambda: reader.words(run.info.concept_fingerprint)
        )

    def _read(self, reader: StoreReader, run: str, old: _Entry | None, version: int) -> _Entry | None:
        self.reads += 1
        info = reader.run(run)
        if info is None:
            return None
        if old is not None and _moment(old.data.info) != _moment(info):
            old = None  # deleted and made anew under the same id, or a resumed process superseded a part of it
        series = dict(old.series) if old else {}
        for layer, points in reader.series(run, after=old.sequence if old else 0).items():
            series[layer] = series.get(layer, []) + points
        fresh, row = reader.scalars(run, after=old.scalar_row if old else 0)
        scalars = dict(old.scalars) if old else {}
        scalars |= {name: _joined(scalars.get(name), more) for name, more in fresh.items()}
        layers = tuple(reader.layers(run))
        delivery = DeliveryReader(reader.connection)
        data = RunData(
            info,
            layers,
            series,
            dict(sorted(scalars.items(), key=_telling)),
            reader.alerts(run),
            reader.gaps(run),
            delivery.acknowledgements(),
            delivery.silences(time.time()),
            AnchorReader(reader.connection).of(run),
        )
        sequence = max((p[-1].sequence for p in series.values() if p), default=0)
        return _Entry(data, version, time.monotonic(), sequence, row, series, scalars)


def _moment(info: RunInfo) -> tuple[float, int]:
    """What was read of a run goes on being true while this stays the same."""
    return info.created, info.revision


class _Cache:
    """Least recently used answers that never change; None is not kept, it may be answered later."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            value = make()
            if value is not None:
                self._keep(key, value)
            return value

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._keep(key, value)

    def _keep(self, key: Hashable, value: Any) -> None:
        self._found[key] = value
        self._found.move_to_end(key)
        if len(self._found) > self._size:
            self._found.popitem(last=False)


def _appended(trail: Trail, more: Trail) -> Trail:
    return Trail(*(np.concatenate([getattr(trail, f.name), getattr(more, f.name)]) for f in fields(Trail)))


def _until(trail: Trail, step: int) -> Trail:
    """The part of a trail not after a step."""
    return _part(trail, trail.steps <= step)


def _part(trail: Trail, which: slice | np.ndarray) -> Trail:
    return Trail(*(getattr(trail, f.name)[which] for f in fields(Trail)))


def _joined(old: Scalars | None, more: Scalars) -> Scalars:
    if old is None:
        return more
    return Scalars(more.name, np.concatenate([old.steps, more.steps]), np.concatenate([old.values, more.values]))


def _telling(item: tuple[str, Scalars]) -> tuple[int, str]:
    """Loss first, then accuracy, then the rest by name: only the first few are drawn."""
    name = item[0].lower()
    rank = 0 if "loss" in name else 1 if "acc" in name else 2
    return rank, item[0]
