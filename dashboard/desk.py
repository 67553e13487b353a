"""The alerts of all runs, and what people and channels did about them, read from the store for all tabs at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cm_server.notices import DEAD, QUEUED, Acknowledgement, Letter, Silence
from cm_server.report import Alert
from cm_server.stores.delivery_reader import DeliveryReader
from dashboard.data import Source

FRESH_SECONDS = 0.5
"""Tabs that ask within this time share one reading."""


@dataclass(frozen=True)
class DeskData:
    """What the Alerts page draws.

    Attributes:
        alerts: of all runs, newest first.
        names: run names by id.
        acknowledged: by alert id.
        silences: in force.
        failed: notices that were given up.
        struggling: notices that failed at least once and are tried again.
        read_at: seconds since 1970.
    """

    alerts: Sequence[Alert] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    acknowledged: Mapping[int, Acknowledgement] = field(default_factory=dict)
    silences: Sequence[Silence] = ()
    failed: Sequence[Letter] = ()
    struggling: Sequence[Letter] = ()
    read_at: float = 0.0

    def alert(self, key: int) -> Alert | None:
        """One alert; None if there is none of this number."""
        return next((alert for alert in self.alerts if alert.id == key), None)


class Desk:
    """Reads the delivery's tables; safe to use from several threads.

    Args:
        source: the store as the dashboard sees it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._data = DeskData()
        self._until = 0.0

    def read(self) -> DeskData:
        """What the store says now; nothing while there is no store."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._data = self._read()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._data

    def forget(self) -> None:
        """Something was ordered: the next reading is a new one."""
        with self._lock:
            self._until = 0.0

    def _read(self) -> DeskData:
        reader = self._source.reader()
        now = time.time()
        if reader is None:
            return DeskData(read_at=now)
        delivery = DeliveryReader(reader.connection)
        return DeskData(
            alerts=reader.alerts(),
            names={run.run: run.name for run in reader.runs()},
            acknowledged=delivery.acknowledgements(),
            silences=delivery.silences(now),
            failed=delivery.letters(DEAD),
            struggling=[letter for letter in delivery.letters(QUEUED) if letter.attempts > 0],
            read_at=now,
        )
