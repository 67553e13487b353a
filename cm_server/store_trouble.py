"""A store that cannot be written: said once, in words, and once more when it can be again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from cm_server.stores.errors import why_unwritable

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class StoreTrouble:
    """While there is trouble nothing is taken from clients and nothing acknowledged; what is stored can be read.

    Args:
        directory: the store's folder, for the words.
        try_out: writes a little, and raises while that cannot be done.

    Attributes:
        reason: why the store cannot be written; empty while it can.
    """

    def __init__(self, directory: Path, try_out: Callable[[], None]) -> None:
        self._directory, self._try_out = directory, try_out
        self.reason = ""
        self._since = self._next = 0.0

    def met(self, error: BaseException) -> bool:
        """Takes an error; whether it is about the store."""
        reason = why_unwritable(error, self._directory)
        if not reason:
            return False
        self._next = time.monotonic() + RETRY_SECONDS
        if not self.reason:
            self._since = time.monotonic()
        if reason != self.reason:
            self.reason = reason
            logger.error(
                "the store %s cannot be written: %s. Clients keep what they have, nothing is acknowledged; what is "
                "stored can be read. Tried again every %g s",
                self._directory, reason, RETRY_SECONDS,
            )  # fmt: skip
        return True

    @property
    def waits(self) -> bool:
        """Whether it is too early for the next try."""
        return bool(self.reason) and time.monotonic() < self._next

    def try_again(self) -> None:
        """Tries whether the store can be written.

        Raises:
            OSError, sqlalchemy.exc.DBAPIError: it cannot.
        """
        if self.reason:
            self._try_out()

    def over(self) -> None:
        """All that waited is written."""
        if self.reason:
            logger.warning(
                "the store %s can be written again after %.0f s", self._directory, time.monotonic() - self._since
            )
            self.reason = ""
