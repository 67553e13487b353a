"""A server that is started again where it asks for that: it had grown above its memory ceiling."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from cm_server.commands.processes import Child
from cm_server.memory import RESTART_STATUS

MOST_RESTARTS = 5
WITHIN_SECONDS = 600.0
"""More restarts than that in this time mean that the ceiling is below what the server needs."""


class Keeper:
    """Keeps a server up.

    Args:
        child: the server, started.
        again: starts it once more, at the same addresses.
        clock: monotonic seconds.

    Attributes:
        child: the server that runs now, or ran last.
    """

    def __init__(self, child: Child, again: Callable[[], Child], clock: Callable[[], float] = time.monotonic) -> None:
        self.child, self._again, self._clock = child, again, clock
        self._restarts: deque[float] = deque()

    @property
    def running(self) -> bool:
        """Whether it runs; where it asked to be started again, that is done first."""
        if self.child.running:
            return True
        if self.child.process.returncode != RESTART_STATUS or self._too_often():
            return False
        self._restarts.append(self._clock())
        self.child = self._again()
        return True

    @property
    def restarts(self) -> int:
        """How often it was started again of late."""
        return len(self._restarts)

    def _too_often(self) -> bool:
        while self._restarts and self._clock() - self._restarts[0] > WITHIN_SECONDS:
            self._restarts.popleft()
        return len(self._restarts) >= MOST_RESTARTS
