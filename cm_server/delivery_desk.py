"""Delivery inside the server: the dispatcher, and the inbox through which people acknowledge and silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cm_server import anchor_desk, keeping
from cm_server.control import Handle, Inbox
from cm_server.notifiers import operations
from cm_server.notifiers.base import Notifier
from cm_server.notifiers.dispatch import Dispatcher
from cm_server.notifiers.settings import NotifySettings
from cm_server.report import Alert
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

LIVE_STATES = ("waiting", "running")


class DeliveryDesk:
    """What the server's loop has to call.

    Args:
        writer, reader: the store.
        settings: channels, routes, times.
        wake: makes the loop call `tick` soon; called from other threads.
        on_change: called with each run whose alerts are now acknowledged or silenced.
        keep: carries out the commands of `keeping`, which come through the same folder.
        anchors: carries out the commands of `anchor_desk`, which come through the same folder.
        on_outcome: called with channel and outcome of every attempt to tell somebody.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        settings: NotifySettings,
        wake: Callable[[], None],
        on_change: Callable[[str], None],
        keep: Handle | None = None,
        anchors: Handle | None = None,
        on_outcome: Callable[[str, str], None] = lambda channel, outcome: None,
    ) -> None:
        self._reader, self._on_change = reader, on_change
        self._keep, self._anchors = keep, anchors
        self._tables = DeliveryWriter(writer.transaction)
        self._dispatcher = Dispatcher(self._tables, settings, self._lives, wake, on_outcome=on_outcome)
        self._inbox = Inbox(writer.directory, self._carry_out)

    @property
    def notifier(self) -> Notifier:
        """Takes every transition of every alert."""
        return self._dispatcher

    def open_alerts(self) -> Sequence[Alert]:
        """The alerts that are open."""
        return self._tables.current_alerts(math.inf)

    def tick(self) -> None:
        """Takes commands, outcomes and what is due; never waits."""
        self._inbox.serve()
        self._dispatcher.tick()

    def close(self) -> None:
        """Tells what has not been told yet, waiting a little."""
        self._dispatcher.close()

    def _lives(self, run: str) -> bool:
        info = self._reader.run(run)
        return info is not None and info.state in LIVE_STATES

    def _carry_out(self, command: Mapping[str, Any]) -> dict[str, Any]:
        if self._anchors is not None and command.get("do") in anchor_desk.OPERATIONS:
            return dict(self._anchors(command))
        if self._keep is not None and command.get("do") in keeping.OPERATIONS:
            return dict(self._keep(command))
        now = self._dispatcher.now()
        answer = operations.apply(self._tables, command, now)
        self._dispatcher.refresh()
        for run in {alert.run for alert in self._tables.current_alerts(now)}:
            self._on_change(run)
        return answer
