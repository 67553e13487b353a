"""What the state chip and the waiting pages say: facts for the browser, and the sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from cm_server.report import RunInfo, SeriesPoint

STALE_SECONDS = 20.0
"""A run that captures often is stale after this long without a snapshot."""
STALE_INTERVALS = 6.0
"""Any other run is stale after this many of its usual intervals."""
_PROGRESS = re.compile(r"(\d+)\s*/\s*(\d+)")


def facts(info: RunInfo | None, points: Sequence[SeriesPoint], now: float) -> dict[str, Any]:
    """What the browser needs to keep the chip true without asking again.

    Args:
        info: the run; None if it is not in the store.
        points: any layer's series, oldest first.
        now: this machine's clock, so that the browser can count on from there with its own.
    """
    if info is None:
        return {"known": False, "now": now}
    last = points[-1] if points else None
    return {
        "known": True,
        "state": info.state,
        "activity": info.activity,
        "progress": progress(info.activity),
        "step": last.step if last else None,
        "last": last.time if last else None,
        "committed": last.committed_at if last else None,
        "stale_after": stale_after(points),
        "now": now,
    }


def stale_after(points: Sequence[SeriesPoint]) -> float:
    """Seconds without a snapshot after which a running run is called stale, from its own rhythm."""
    times = [p.time for p in points[-41:]]
    between = [b - a for a, b in itertools.pairwise(times)]
    return max(STALE_SECONDS, STALE_INTERVALS * median(between)) if between else 60.0


def progress(activity: str) -> float | None:
    """The share done that an activity names, in [0, 1].

    >>> progress('embedding probe images 320/1024')
    0.3125
    """
    found = _PROGRESS.search(activity)
    if not found or int(found[2]) == 0:
        return None
    return min(1.0, int(found[1]) / int(found[2]))


def waiting_sentence(info: RunInfo) -> str:
    """Why a run has nothing to draw yet."""
    if info.activity:
        return f"The server is {info.activity}. The first snapshot appears here by itself."
    if info.state == "waiting":
        return "The run is connected and nothing is captured yet. The first snapshot appears here by itself."
    if info.state == "running":
        return "The first capture is being analysed. It appears here by itself."
    return f"The run is {info.state} and no capture of it was analysed, so there is nothing to draw."
