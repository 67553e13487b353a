"""Alerts of a store's server, shown on the terminal of another process as they come."""

from __future__ import annotations

import time
from pathlib import Path

from cm_server.notifiers.terminal import TerminalNotifier
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.reader import StoreReader


class AlertTail:
    """Follows the alerts in a store, from now on.

    Args:
        store: the store's folder; a server has made it by the time of the first `show`.
        shown_by: shows them.
    """

    def __init__(self, store: Path, shown_by: TerminalNotifier | None = None) -> None:
        self._store, self._notifier = store, shown_by or TerminalNotifier()
        self._reader: DeliveryReader | None = None
        self._since = time.time()
        self._seen: dict[int, str] = {}

    def show(self) -> None:
        """Shows every alert whose state or severity has changed since the last time."""
        if self._reader is None:
            self._reader = DeliveryReader(StoreReader(self._store).connection)
        for alert in self._reader.current_alerts(self._since):
            now = f"{alert.state} {alert.severity}"
            if alert.updated > self._since and self._seen.get(alert.id) != now:
                self._seen[alert.id] = now
                self._notifier.notify(alert)
