"""How server, store and runs are doing, as far as the store and this machine tell."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from cm_server.events import read_discovery
from cm_server.report import Gap, RunInfo, SnapshotInfo
from cm_server.stores.location import database_of
from cm_server.stores.schema import SCHEMA_VERSION
from cm_server.version import VERSION
from dashboard.data import RunData, Source
from dashboard.figures.stages import SEND, WAIT
from dashboard.orders import server_runs

RUNS = 12
"""Runs shown: those that are open, then the newest."""
RECENT = 60
"""Snapshots that the stage times are taken from."""
GAPS = 20
FRESH_SECONDS = 1.0
_SIZE_SECONDS = 30.0
PACKAGES = ("numpy", "pyzmq", "sqlalchemy", "dash", "plotly", "fastapi", "pillow", "torch", "open_clip_torch")


@dataclass(frozen=True)
class ServerHealth:
    """The newest server on the store.

    Attributes:
        known: whether there ever was one.
        alive: whether its process lives (on this machine).
        pid, started, ingest, events, version: as it wrote them; 0 or empty where it did not.
    """

    known: bool = False
    alive: bool = False
    pid: int = 0
    started: float = 0.0
    ingest: str = ""
    events: str = ""
    version: str = ""


@dataclass(frozen=True)
class StoreHealth:
    """The store's folder: bytes used by arrays and index, bytes free on its disk; the database that has the index."""

    directory: str = ""
    schema: int = SCHEMA_VERSION
    arrays: int = 0
    index: int = 0
    free: int = 0
    database: str = ""


@dataclass(frozen=True)
class RunHealth:
    """One run: what the store and its client tell.

    Attributes:
        data: the run.
        recent: its newest snapshots, oldest first.
    """

    data: RunData
    recent: Sequence[SnapshotInfo] = ()

    @property
    def info(self) -> RunInfo:
        """The run's row."""
        return self.data.info

    def stat(self, name: str) -> float | None:
        """A figure of the client's last word; None where it said none."""
        value = self.info.stats.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def stages(self) -> dict[str, float]:
        """Median seconds of the newest snapshots' stages: to the server, waiting for analysis, analysis of each
        layer, to the disk is part of the waiting."""
        if not self.recent:
            return {}
        layers = dict.fromkeys(name for one in self.recent for name in one.seconds)
        found = {
            TO_SERVER: median(max(0.0, one.received_at - one.captured_at) for one in self.recent),
            WAITING: median(waiting(one) for one in self.recent),
        }
        return found | {name: median(one.seconds.get(name, 0.0) for one in self.recent) for name in layers}


TO_SERVER, WAITING = SEND, WAIT


def waiting(snapshot: SnapshotInfo) -> float:
    """Seconds from a capture's arrival to its commit that were not analysis."""
    return max(0.0, snapshot.committed_at - snapshot.received_at - sum(snapshot.seconds.values()))


@dataclass(frozen=True)
class SystemData:
    """What the System page draws."""

    server: ServerHealth = ServerHealth()
    store: StoreHealth = StoreHealth()
    runs: Sequence[RunHealth] = ()
    others: int = 0
    gaps: Sequence[Gap] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    read_at: float = 0.0


class Health:
    """Reads it for all tabs at once; safe to use from several threads.

    Args:
        source: the store as the dashboard sees it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._data, self._until = SystemData(), 0.0
        self._sizes, self._sized_until = (0, 0), 0.0
        self._versions = versions()

    def read(self) -> SystemData:
        """How everything is now."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._data = self._read()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._data

    def _read(self) -> SystemData:
        listed = self._source.runs()
        shown = sorted(listed, key=lambda run: (run.state not in ("waiting", "running"), -run.updated))[:RUNS]
        runs = [RunHealth(data, self._recent(data)) for run in shown if (data := self._source.run(run.run)) is not None]
        gaps = sorted((gap for run in runs for gap in run.data.gaps), key=lambda gap: -gap.time)[:GAPS]
        return SystemData(
            server_of(self._source.directory),
            self._store(),
            runs,
            len(listed) - len(runs),
            gaps,
            self._versions,
            time.time(),
        )

    def _recent(self, data: RunData) -> list[SnapshotInfo]:
        reader, points = self._source.reader(), data.longest()
        if reader is None or not points:
            return []
        before = points[-RECENT - 1].sequence if len(points) > RECENT else 0
        return reader.snapshots(data.info.run, after=before)[-RECENT:]

    def _store(self) -> StoreHealth:
        folder = self._source.directory
        if not folder.exists():
            return StoreHealth(str(folder))
        if time.monotonic() >= self._sized_until:
            index = sum(size(path) for path in folder.glob("index.sqlite*"))
            self._sizes = (sum(size(path) for path in (folder / "segments").rglob("*.seg")), index)
            self._sized_until = time.monotonic() + _SIZE_SECONDS
        database = database_of(folder)
        about = (str(folder), SCHEMA_VERSION, *self._sizes, shutil.disk_usage(folder).free)
        return StoreHealth(*about, database.url if database is not None else "")


def server_of(store: Path) -> ServerHealth:
    """What the newest server on a store wrote about itself, and whether it lives."""
    found: Mapping[str, Any] | None = read_discovery(store)
    if found is None:
        return ServerHealth()
    pid, started = found.get("pid"), found.get("started")
    return ServerHealth(
        known=True,
        alive=server_runs(store),
        pid=pid if isinstance(pid, int) else 0,
        started=float(started) if isinstance(started, int | float) else 0.0,
        ingest=str(found.get("ingest", "")),
        events=str(found.get("events", "")),
        version=str(found.get("version", "")),
    )


def versions() -> dict[str, str]:
    """What runs here: this program, Python, and the packages that are installed (none of them is imported)."""
    found = {"concept-monitor": VERSION, "python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def size(path: Path) -> int:
    """A file's bytes; 0 if it has just gone."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
