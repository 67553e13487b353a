"""A server as far as people's orders are concerned: what commands and the dashboard speak to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cm_server.delivery_desk import DeliveryDesk
from cm_server.events import write_discovery
from cm_server.notifiers.settings import NotifySettings
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter


@contextmanager
def serving(store: Path) -> Iterator[list[str]]:
    """A server on the store as far as people's orders are concerned, in this process; yields the runs it publishes."""
    ended, changed, begun = threading.Event(), list[str](), threading.Event()

    def loop() -> None:
        writer, reader = StoreWriter(store), StoreReader(store)
        desk = DeliveryDesk(writer, reader, NotifySettings(), lambda: None, changed.append)
        begun.set()
        while not ended.wait(0.02):
            desk.tick()
        desk.close()
        writer.close()
        reader.close()

    thread = threading.Thread(target=loop)
    thread.start()
    assert begun.wait(30)
    write_discovery(store, "tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    try:
        yield changed
    finally:
        ended.set()
        thread.join()
