"""What is tried twice: an analysis that fails for a reason that may pass, or that a server died of.

An exception is caught; a crash in native code, or the system's out-of-memory killer, takes the whole process. Then the
clients send again what was not acknowledged, and the same capture would kill the next server too, and the one after.
So what is being analysed stands in a small file for as long as it takes. It is not synced: the death of a process
leaves it, and a loss of power says nothing about a capture.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "under-analysis.json"
MOST = 2


class Attempts:
    """Does work, twice at most; belongs to the worker's thread.

    Args:
        folder: the store's, where a dead server left what it was at; None remembers nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE
        self._deaths: dict[str, int] = {}
        if self._path is None:
            return
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            left = json.loads(self._path.read_text(encoding="utf-8"))
            self._deaths = {str(key): int(count) for key, count in left["deaths"].items()}
            if current := left["current"]:
                self._deaths[current] = self._deaths.get(current, 0) + 1
                logger.warning("an earlier server died during the analysis of %s", current)

    def run(self, what: str, work: Callable[[], None]) -> str:
        """Does some work.

        Args:
            what: names it, for people and across restarts.
            work: raises `ValueError`, in words, where the fault is in what was sent; then no second try helps.

        Returns:
            Why it failed; empty if it did not.
        """
        tries = MOST - self._deaths.get(what, 0)
        reason = f"the server died {MOST} times while it was analysed"
        for left in reversed(range(tries)):
            self._write(what)
            reason, hopeless = _reason(work)
            if not reason or hopeless:
                break
            if left:
                logger.warning("the analysis of %s failed and is tried again", what)
            _free_memory()
        self._deaths.pop(what, None)
        self._write("")
        return reason

    def interrupted(self) -> None:
        """The process ends on purpose while work is under way: that is no death."""
        self._write("")

    def _write(self, current: str) -> None:
        if self._path is None:
            return
        with suppress(OSError):  # a full disk: then a crash is not remembered
            if not (current or self._deaths):
                self._path.unlink()
                return
            part = self._path.with_name(f".{self._path.name}.part")
            part.write_text(json.dumps({"current": current, "deaths": self._deaths}), encoding="utf-8")
            part.replace(self._path)


def _reason(work: Callable[[], None]) -> tuple[str, bool]:
    """Why it failed, and whether it always will; the error itself would keep what it was about in memory."""
    try:
        work()
    except ValueError as error:
        return str(error) or "ValueError", True
    except BaseException as error:  # also SystemExit of a plug-in: whatever a job does, the server lives
        logger.warning("an analysis failed", exc_info=True)
        return f"{type(error).__name__}: {error}".rstrip(": "), False
    return "", False


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
