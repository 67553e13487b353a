"""Moving closed segments into a store's archive: bytes first, checked, then the file here goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cm_server.stores.archive import SEGMENTS, Archive
from cm_server.stores.segments import next_path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0


def move_run(root: Path, run: str, archive: Archive, writing: Callable[[str], str]) -> Iterator[int]:
    """Moves a run's closed segments, one a step.

    Args:
        root: folder of all runs' segments.
        run: run id.
        archive: where to.
        writing: says which segment of a run is appended to, if any; asked after the files were listed, so that one that
            was begun meanwhile is not among them.

    Yields:
        Bytes that were freed here.
    """
    paths = sorted((root / run).glob("*.seg"))
    opened = writing(run)
    for path in paths:
        name = path.relative_to(root).as_posix()
        size = path.stat().st_size
        if name == opened or not size:
            continue
        archive.put(path, f"{SEGMENTS}/{name}")
        if path == paths[-1]:
            next_path(path.parent).touch()  # keeps the count: a name never means two files
        path.unlink()
        yield size


class Archiver:
    """Moves closed segments on a thread of its own, so that the server's loop never waits for a network.

    Args:
        folder: the store's.
        archive: where to.
        writing: the segment that a run's arrays are appended to now.
        busy: whether a long command on the store's runs is under way.
    """

    def __init__(
        self, folder: Path, archive: Archive, writing: Callable[[str], str], busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._root, self._archive, self._writing, self._busy = folder / SEGMENTS, archive, writing, busy
        self._ended = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="archive", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Ends it; what is half moved is here still, and moved by the next server."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> int:
        """Moves what is closed now; returns the bytes freed here."""
        freed = 0
        try:
            for folder in sorted(self._root.glob("*")):
                if self._busy():  # a compaction writes files that `writing` does not name
                    return freed
                for size in move_run(self._root, folder.name, self._archive, self._writing):
                    freed += size
                    if self._ended.is_set():
                        return freed
        except Exception as error:  # each protocol has its own
            if not self._failing:
                logger.error("array files cannot be moved to %s, and stay here: %s", self._archive.url, error)
            self._failing = True
            return freed
        if self._failing:
            logger.warning("array files can be moved to %s again", self._archive.url)
        self._failing = False
        return freed
