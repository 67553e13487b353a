"""The time of day, for a process that must not be confused by somebody setting it."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since 1970 that never go back while the process lives, whatever is done to the system's clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._offset + time.monotonic()
