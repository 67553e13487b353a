"""Carrying out what people do to alerts: by the server that runs on the store, or here where none does."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cm_server import control
from cm_server.notifiers import operations
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.errors import StoreInUseError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter


def carry_out(store: Path, command: Mapping[str, Any]) -> dict[str, Any]:
    """Carries a command of `operations` out.

    Args:
        store: the store's folder.
        command: plain JSON.

    Raises:
        StoreError: there is no store.
        OperationError, ControlError: the command makes no sense, or did not get through.
    """
    StoreReader(store).close()  # says what is wrong before a writer would make an empty store
    try:
        writer = StoreWriter(store)
    except StoreInUseError:
        return control.request(store, command)
    with closing(writer):
        return operations.apply(DeliveryWriter(writer.transaction), command, time.time())


def user() -> str:
    """Who runs this command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
