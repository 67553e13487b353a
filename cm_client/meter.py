"""What the monitor costs: its own share of the training's wall time, measured where it arises.

On the training's thread every entry into the client is timed by the clock: hooks, probe passes, copies, handing over,
waiting for a lock or the interpreter. The sender's thread counts with its CPU time, because while it encodes it holds
the interpreter that the training needs. ZeroMQ's own I/O threads hold none and are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

STALL = 1e-4
"""Seconds beyond which a call that takes microseconds was interrupted."""


class Meter:
    """Adds up seconds.

    Args:
        sender: CPU seconds of the sender's thread so far.

    """

    def __init__(self, sender: Callable[[], float] = lambda: 0.0) -> None:
        self._sender = sender
        self._made = self._entered = time.perf_counter()
        self._started: float | None = None
        self._depth = 0
        self._thread = 0.0
        self.budget: float | None = None
        """Share that captures keep to; None where their steps are fixed."""
        self.capturing = 0.0
        """Seconds of ``thread`` in captures: probe passes with their copies, or windows of the stream."""

    def start(self) -> None:
        """The first training step begins: from now on time goes by. Time before it would only flatter the share."""
        if self._started is None:
            self._started = time.perf_counter()

    def enter(self) -> None:
        """The training's thread enters the client."""
        if not self._depth:
            self._entered = time.perf_counter()
        self._depth += 1

    def leave(self) -> None:
        """It leaves again."""
        self._depth -= 1
        if not self._depth:
            self._thread += time.perf_counter() - self._entered

    def passed(self, seconds: float, times: int) -> None:
        """One of so many short calls on the training's thread took ``seconds``: it stands for them all.

        Unless the machine stood still just then: that happened once.
        """
        self._thread += seconds if seconds > STALL else times * seconds

    def excuse(self, seconds: float) -> None:
        """So much of the time since `enter` was spent in the user's own code."""
        self._thread -= seconds

    @property
    def thread(self) -> float:
        """Seconds on the training's thread, up to this moment."""
        return self._thread + (time.perf_counter() - self._entered if self._depth else 0.0)

    def elapsed(self) -> float:
        """Seconds since the first training step; before it, since the meter was made."""
        return time.perf_counter() - (self._made if self._started is None else self._started)

    def spent(self) -> float:
        """Seconds that the monitor has cost."""
        return self.thread + self._sender()

    def figures(self) -> dict[str, Any]:
        """For heartbeats and `Monitor.stats`."""
        elapsed, spent = max(self.elapsed(), 1e-9), self.spent()
        figures: dict[str, Any] = {
            "seconds": elapsed,
            "overhead_seconds": spent,
            "overhead_share": spent / elapsed,
            "capture_seconds": self.capturing,
            "sender_seconds": self._sender(),
        }
        return figures if self.budget is None else figures | {"budget": self.budget}
