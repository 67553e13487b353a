"""A store of a thousand runs of a thousand snapshots: how soon it opens, and how soon a past step is there."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from cm_server.commands.runs_list import row as list_row
from cm_server.report import LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.stores.overview import run_lines
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from dashboard.data import Source

REAL, LAYER = "real", "layer4"
WIDTH = 384


def summary(units: int, step: int) -> LayerSummary:
    """Numbers of one layer, as long in the index as real ones."""
    categories = {"color": 3, "texture": 9, "material": 11, "part": 17, "object": 120, "scene": 40}
    return LayerSummary(
        layer=LAYER, units=units, live=units, d_anchor=0.8 + 0.1 / (step + 1), centroid_baseline=0.87, coverage=0.51,
        distinct=200, pairwise=0.712345, effective_words=31.2345, interpretable=200, tau=0.112345, tau_null=0.112345,
        temperature=0.098765, probes=1024, concepts=1229, anchors=1229, categories=categories, fingerprint="f" * 64,
        ideal=0.61234567, chance=0.87654321,
    )  # fmt: skip


def arrays(random_: np.random.Generator, units: int) -> LayerArrays:
    """Arrays of one layer, all random."""
    return LayerArrays(
        live=np.ones(units, bool),
        concepts=random_.integers(0, 1229, (units, 5), dtype=np.int32),
        similarities=random_.random((units, 5), dtype=np.float32),
        margin=random_.random(units, dtype=np.float32),
        embeddings=random_.random((units, WIDTH), dtype=np.float32),
        positions=random_.random((units, 2), dtype=np.float32),
        shift=random_.random(units, dtype=np.float32),
        samples=random_.integers(0, 1024, (units, 9), dtype=np.int32),
        activations=random_.random((units, 9), dtype=np.float32),
        tau=random_.random(units, dtype=np.float32),
    )


def build(store: Path, runs: int, snapshots: int, units: int) -> None:
    """One run through the real writer, with its arrays; the others as rows of the index that look like its rows."""
    writer, random_ = StoreWriter(store), np.random.default_rng(0)
    writer.save_run(REAL, name="a real run", state="finished")
    writer.save_layers(REAL, [(LAYER, units)])
    writer.begin_epoch(REAL, "e", 0.0, None)
    for number in range(snapshots):
        layers = {LAYER: LayerReport(summary(units, number), arrays(random_, units))}
        writer.commit_snapshot(SnapshotReport(REAL, number, number * 10, 1.0, 2.0, layers, {"analysis": 0.1}, "e"))
    for number in range(1, runs):
        writer.save_run(f"run{number:04d}", name=f"training {number}", state="finished", encoder="conse")
        writer.save_layers(f"run{number:04d}", [(LAYER, units)])
        writer.begin_epoch(f"run{number:04d}", "e", 0.0, None)
    writer.close()
    with closing(sqlite3.connect(store / "index.sqlite")) as index:
        index.execute("PRAGMA synchronous=OFF")
        like = dict(zip(*_row(index, "layer_reports"), strict=True))
        for number in range(1, runs):
            _copy_run(index, f"run{number:04d}", like, snapshots)
            index.commit()
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _row(index: sqlite3.Connection, table: str) -> tuple[list[str], tuple[Any, ...]]:
    cursor = index.execute(f"SELECT * FROM {table} LIMIT 1")
    return [column[0] for column in cursor.description], cursor.fetchone()


def _copy_run(index: sqlite3.Connection, run: str, like: dict[str, Any], snapshots: int) -> None:
    first = int(index.execute("SELECT max(sequence) FROM snapshots").fetchone()[0]) + 1
    index.executemany(
        "INSERT INTO snapshots (sequence, run, capture, step, captured_at, received_at, committed_at, seconds, epoch)"
        " VALUES (?, ?, ?, ?, 1, 2, 3, '{\"analysis\": 0.1}', 'e')",
        ((first + n, run, n, n * 10) for n in range(snapshots)),
    )
    columns = list(like)
    marks = ", ".join("?" * len(columns))
    index.executemany(
        f"INSERT INTO layer_reports ({', '.join(columns)}) VALUES ({marks})",
        (tuple(_layer_row(like, first + n, run, n * 10)[name] for name in columns) for n in range(snapshots)),
    )


def _layer_row(like: dict[str, Any], sequence: int, run: str, step: int) -> dict[str, Any]:
    return like | {"sequence": sequence, "run": run, "step": step, "segment": f"{run}/000001.seg", "seal": None}


def timed(work: Callable[[], Any], times: int = 1) -> np.ndarray:
    """Seconds of each of so many calls, and of CPU time, ``[times, 2]``; on a busy machine the second means more."""
    found = []
    for _ in range(times):
        started, busy = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - started, time.process_time() - busy))
    return np.array(found)


def measure(store: Path, units: int) -> Iterator[dict[str, Any]]:
    """Every figure of a store that is there."""
    size = sum(path.stat().st_size for path in store.glob("index.sqlite*"))
    yield {"what": "size of the index", "value": size / 1e9, "unit": "GB"}
    yield _row_of("open for writing and reading, look for abandoned runs", timed(lambda: _open(store), 5), 3000)
    reader = StoreReader(store)
    yield _row_of(
        "concept-monitor runs list, all runs", timed(lambda: [list_row(x) for x in run_lines(reader)], 3), 3000
    )
    yield _row_of("the dashboard's list of runs", timed(lambda: Source(store, lambda run: 0).runs(), 5), None)
    yield _row_of(
        "the dashboard opens a run of 1,000 snapshots", timed(lambda: Source(store, lambda run: 0).run(REAL), 5), None
    )
    steps, chosen = [s.step for s in reader.snapshots(REAL)], random.Random(0)
    yield _row_of("a past step, warm", timed(lambda: reader.report(REAL, LAYER, chosen.choice(steps)), 100), 150)
    yield _row_of(
        "a past step, cold arrays", _cold(store, lambda: reader.report(REAL, LAYER, chosen.choice(steps))), 150
    )
    history = lambda: reader.unit_history(REAL, LAYER, chosen.randrange(units))  # noqa: E731
    yield _row_of("a unit's whole history, warm", timed(history, 50), 50)
    yield _row_of("a unit's whole history, cold arrays", _cold(store, history), None)
    yield _row_of("a unit's trail, warm", timed(lambda: reader.trail(REAL, LAYER, chosen.randrange(units)), 50), 50)
    reader.close()


def start(store: Path) -> float:
    """Seconds from starting the server's process to its ready line."""
    from server_load import server

    started = time.perf_counter()
    with server(store.parent):
        return time.perf_counter() - started


def _open(store: Path) -> None:
    writer, reader = StoreWriter(store), StoreReader(store)
    for run in reader.runs():
        if run.state in ("waiting", "running"):
            raise AssertionError
    reader.close()
    writer.close()


def _cold(store: Path, work: Callable[[], Any], times: int = 5) -> np.ndarray:
    """With the arrays' pages dropped from the system's cache before each call."""
    found = []
    for _ in range(times):
        for path in (store / "segments" / REAL).glob("*.seg"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found.append(timed(work)[0])
    return np.array(found)


def _row_of(what: str, seconds: np.ndarray, limit: float | None) -> dict[str, Any]:
    (middle, busy), worst = np.median(seconds, axis=0) * 1e3, float(seconds[:, 0].max()) * 1e3
    target = {"target": f"< {limit:g} ms", "met": bool(middle < limit)} if limit else {}
    note = f"median; slowest of {len(seconds)} {worst:.1f} ms, CPU time {busy:.1f} ms"
    return {"what": what, "value": float(middle), "unit": "ms", "note": note} | target
