"""A report's rows of the index, in the driver's own words: compiling statements would take longer than running them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache

import sqlalchemy as sa

from cm_server.report import SnapshotReport
from cm_server.stores.dialect import plainly
from cm_server.stores.seals import seal_of
from cm_server.stores.segments import ArraySpec, Extent

_ADD_SNAPSHOT = """INSERT INTO snapshots (run, capture, step, captured_at, received_at, committed_at, seconds, epoch,
probe_fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING sequence"""
_ADD_LAYER = """INSERT INTO layer_reports
(sequence, layer, run, step, summary, segment, "offset", length, crc32, arrays, seal)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_DESCRIPTIONS = "INSERT INTO layer_descriptions (sequence, layer, texts) VALUES (?, ?, ?)"
_HAS = "SELECT 1 FROM snapshots WHERE run = ? AND epoch = ? AND capture = ?"
_HIGHEST = "SELECT max(capture) FROM snapshots WHERE run = ? AND epoch = ?"
_MOST_KNOWN = 4096

Transaction = Callable[[], AbstractContextManager[sa.Connection]]


def add_snapshot(connection: sa.Connection, report: SnapshotReport) -> int:
    """Adds the snapshot's own row; returns its sequence number."""
    times = report.captured_at, report.received_at, time.time()
    seconds = json.dumps(dict(report.seconds))
    row = (report.run, report.capture, report.step, *times, seconds, report.epoch, report.probe_fingerprint)
    return int(plainly(connection, _ADD_SNAPSHOT, row).scalar_one())


def add_layers(connection: sa.Connection, sequence: int, report: SnapshotReport, extents: Mapping[str, Extent]) -> None:
    """Adds its layers' rows, each with its seal.

    Args:
        connection: within a transaction.
        sequence: of the snapshot's row.
        report: what is stored.
        extents: by layer, where its arrays lie.
    """
    rows, told = [], []
    for name, layer in report.layers.items():
        at, summary = extents[name], json.dumps(finite_fields(vars(layer.summary)))
        about = {"sequence": sequence, "layer": name, "run": report.run, "step": report.step, "summary": summary}
        place = at.segment, at.offset, at.length, at.crc32, _specs_text(at.arrays)
        rows.append((*about.values(), *place, seal_of(about)))
        if layer.descriptions:
            told.append((sequence, name, json.dumps(list(layer.descriptions))))
    plainly(connection, _ADD_LAYER, rows)
    if told:
        plainly(connection, _ADD_DESCRIPTIONS, told)


def finite_fields(values: Mapping[str, object]) -> dict[str, object]:
    """NaN and infinity become None: JSON has no such numbers."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@lru_cache(maxsize=256)
def _specs_text(specs: tuple[ArraySpec, ...]) -> str:
    """The same for every capture of a layer."""
    return json.dumps([vars(spec) for spec in specs])


class KnownCaptures:
    """Which captures are in the store, asked once per process of a run and not for every capture.

    Clients number their captures upwards: one above the highest that was ever stored cannot be there.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str], int] = {}

    def has(self, transaction: Transaction, run: str, epoch: str, capture: int) -> bool:
        """Whether this capture is stored."""
        if capture > self._highest.get((run, epoch), capture):
            return False
        with transaction() as connection:
            if (run, epoch) not in self._highest:
                if len(self._highest) >= _MOST_KNOWN:
                    del self._highest[next(iter(self._highest))]
                highest = plainly(connection, _HIGHEST, (run, epoch)).scalar()
                self._highest[run, epoch] = -1 if highest is None else int(highest)
            return plainly(connection, _HAS, (run, epoch, capture)).first() is not None

    def added(self, run: str, epoch: str, capture: int) -> None:
        """One is about to be stored; if that fails, one look too many is all that comes of it."""
        if (run, epoch) in self._highest:
            self._highest[run, epoch] = max(capture, self._highest[run, epoch])
