"""A process that is started again after it died: of its memory ceiling, the system's out-of-memory killer, a crash.

What a server was analysing when it died stands in a file (`attempts`): the same capture is tried once more and then
passed over, so that it cannot kill every server that follows.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable

from cm_server.commands.processes import Child
from cm_server.memory import RESTART_STATUS

MOST_RESTARTS = 5
WITHIN_SECONDS = 600.0
"""More restarts than that in this time mean that the ceiling is below what the server needs, or that it always dies."""
_DEATHS = {-getattr(signal, name) for name in ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")}


class Keeper:
    """Keeps a process up; one that ended by itself or on request stays down.

    Args:
        child: the process, started.
        again: starts it once more, at the same addresses.
        clock: monotonic seconds.

    Attributes:
        child: the process that runs now, or ran last.
        ended: how the one before it ended, in words; empty if there was none.
    """

    def __init__(self, child: Child, again: Callable[[], Child], clock: Callable[[], float] = time.monotonic) -> None:
        self.child, self._again, self._clock = child, again, clock
        self._restarts: deque[float] = deque()
        self.ended = ""

    @property
    def running(self) -> bool:
        """Whether it runs; where it died or asked to be started again, that is done first."""
        if self.child.running:
            return True
        code = self.child.process.returncode
        if code not in {RESTART_STATUS, *_DEATHS} or self._too_often():
            return False
        self._restarts.append(self._clock())
        self.ended = "had grown above its memory ceiling" if code == RESTART_STATUS else self.child.ending()
        self.child = self._again()
        return True

    def _too_often(self) -> bool:
        while self._restarts and self._clock() - self._restarts[0] > WITHIN_SECONDS:
            self._restarts.popleft()
        return len(self._restarts) >= MOST_RESTARTS
