"""How the server is: written by its loop, read by the threads that answer health checks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

STALL_SECONDS = 60.0
"""A loop that has not come round for this long hangs; storing a large probe set on a slow disk takes less."""
LEAST_FREE = 64 * 2**20
"""Bytes that must be free on the store's disk before a client is sent here."""
STARTING, SERVING, STOPPING = "starting", "serving", "stopping"


class Vitals:
    """Whether the server lives, and whether it takes captures.

    Args:
        store: the store's folder, whose disk is looked at; None for none.
        clock: seconds, never going back.
    """

    def __init__(self, store: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self.phase = STARTING
        self._beat = clock()
        self._trouble = ""

    def beat(self, trouble: str = "") -> None:
        """The loop has come round.

        Args:
            trouble: why the store cannot be written; empty while it can.
        """
        self._beat, self._trouble = self._clock(), trouble

    def dead(self) -> str:
        """Why a restart would help; empty while the loop comes round. A server that is still starting lives."""
        quiet = self._clock() - self._beat
        if self.phase != STARTING and quiet > STALL_SECONDS:
            return f"the server's loop has not come round for {quiet:.0f} s"
        return ""

    def unready(self) -> str:
        """Why no client should be sent here now; empty if one may."""
        if self.phase != SERVING:
            return f"the server is {self.phase}"
        if self._trouble:
            return "the store cannot be written: see the log"
        if self._store is not None and shutil.disk_usage(self._store).free < LEAST_FREE:
            return "the store's disk is full"
        return self.dead()
