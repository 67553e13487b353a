"""Keeping the store tidy inside the server: people's commands, and retention by the server's own rules."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cm_server.core.retention import Retention
from cm_server.keeping import KEEP_TAG, Job, Keeper
from cm_server.stores.compaction import Step
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
"""Retention looks at the runs that grew once in this time."""


class KeepingDesk:
    """What the server's loop has to call.

    Args:
        writer, reader: the store.
        release: lets go of a run that is to be deleted; returns the reason why it cannot.
        retention: the server's own rules for every run without the tag ``keep``.
        on_change: called with a run whose row changed.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        release: Callable[[str], str],
        retention: Retention,
        on_change: Callable[[str], None],
    ) -> None:
        self._keeper = Keeper(writer, release, alone=False)
        self._reader, self._retention, self._on_change = reader, retention, on_change
        self._looked, self._seen = time.monotonic(), reader.newest_sequence()
        self._own: Job | None = None

    def carry_out(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Carries a person's command out, or begins with it.

        Raises:
            KeepingError: it makes no sense, or another one is under way.
        """
        answer = self._keeper.carry_out(command)
        if isinstance(run := command.get("run"), str):
            self._on_change(run)
        return answer

    @property
    def busy(self) -> bool:
        """Whether something is under way that takes a while."""
        return any(job is not None and not job.state["done"] for job in (self._keeper.job, self._own))

    def tick(self) -> bool:
        """Takes one step of what is under way, at most a few megabytes of work.

        Returns:
            Whether there is more to do at once.
        """
        if not self._retention.keeps_all and self._own is None and self._is_time():
            self._own = Job(0, self._retained())
        for job in (self._keeper.job, self._own):
            if job is not None and not job.state["done"]:
                return self._advance(job)
        return False

    def _advance(self, job: Job) -> bool:
        try:
            more = job.advance()
        except Exception:
            logger.exception("a command on the store's runs could not be carried out to its end")
            more = False
        if more and job.state["about"]:
            self._on_change(str(job.state["about"]).partition("/")[0])
        if not more and job is self._own:
            self._own = None
        return more

    def _is_time(self) -> bool:
        now = time.monotonic()
        due = now - self._looked >= EVERY_SECONDS
        self._looked = now if due else self._looked
        return due

    def _retained(self) -> Iterator[Step]:
        """Applies the server's rules to the runs that grew since the last time."""
        seen, self._seen = self._seen, self._reader.newest_sequence()
        for run in self._reader.grown(seen):
            info = self._reader.run(run)
            if info is None or KEEP_TAG in info.tags:
                continue
            try:
                yield from self._keeper.prune_run(run, self._retention)
            except (StoreError, OSError) as error:
                logger.warning("run %s: its older snapshots could not be given up: %s", run, error)
