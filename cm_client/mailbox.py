"""From the training thread to the transport's: append to a deque; never wait.

Captures and scalars ring no bell: waking a thread gives it the processor and the interpreter's lock, and the training's
own would have to win both back (on a busy machine milliseconds, `tests/bench/handover.py`). The other thread looks in
often; only the end, which somebody waits for, rings.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MAX_BYTES = 128 * 2**20


class Mailbox:
    """Calls handed over by one thread and made by another. No lock: a forked child cannot inherit one that is held.

    Args:
        max_bytes: of what is handed over and not yet taken. Reached only where the other thread is stuck (a disk that
            hangs); one thing always fits.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._calls: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        # One counter a side: each is written by one thread only.
        self._posted = self._taken = 0
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)

    @property
    def nbytes(self) -> int:
        """Bytes handed over and not yet taken."""
        return self._posted - self._taken

    def post(self, nbytes: int, call: Callable[..., None], *args: Any) -> bool:
        """Hand ``call(*args)`` over, which holds so many bytes; False where there is no room."""
        waiting = self._posted - self._taken
        if nbytes and waiting > 0 and waiting + nbytes > self._max_bytes:
            return False
        self._posted += nbytes
        self._calls.append((nbytes, call, args))
        return True

    def ring(self) -> None:
        """Have the calls taken now."""
        # Full: the thread is about to look anyway. Closed: it has ended, and nothing is to be sent.
        with suppress(OSError):
            self._bell.send(b".")

    def take(self) -> None:
        """Make the calls, oldest first."""
        while self._calls:
            nbytes, call, args = self._calls.popleft()
            call(*args)
            self._taken += nbytes

    def fileno(self) -> int:
        """Readable when the bell has rung."""
        return self._ear.fileno()

    def hush(self) -> None:
        """The bell was heard."""
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def close(self) -> None:
        """Nobody takes any more."""
        self._bell.close()
        self._ear.close()
