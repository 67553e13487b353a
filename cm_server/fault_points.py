"""Named points at which a test makes the server fail for real; nothing happens unless `arm` was called.

`commands.server` arms it from the environment: ``CM_FAULT="kill snapshot-inserted 3"`` ends the process, as SIGKILL
does, the third time that point is reached; ``memory`` raises `MemoryError` there and ``die`` `SystemExit`, which no
``except Exception`` catches. A range, ``memory analysis 1-2``, fails each time from the first to the second number.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

VARIABLE = "CM_FAULT"
POINTS = (
    "message-received",
    "file-written",
    "file-renamed",
    "probe-stored",
    "scalars-inserted",
    "scalars-committed",
    "analysis",
    "segment-appended",
    "segment-synced",
    "snapshot-inserted",
    "layers-inserted",
    "alert-inserted",
    "before-commit",
    "snapshot-committed",
    "snapshot-acked",
    "gap-committed",
    "end-committed",
)
"""In the order in which a capture passes them; a file is a probe set or a map."""
ACTIONS = ("kill", "memory", "die")


@dataclass
class _Fault:
    action: str
    point: str
    first: int
    last: int
    seen: Counter[str] = field(default_factory=Counter)

    def reach(self, point: str) -> None:
        self.seen[point] += 1
        if point != self.point or not self.first <= self.seen[point] <= self.last:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "memory":
            raise MemoryError("a test asked for it")
        raise SystemExit("a test asked for it")


_armed: _Fault | None = None


def arm(text: str) -> None:
    """Sets the one fault of this process; empty: none.

    Raises:
        ValueError: the text names no action or point.
    """
    global _armed
    _armed = None
    if text:
        _armed = _parsed(text)
        logger.warning("%s=%r: this server will fail on purpose", VARIABLE, text)


def reach(point: str) -> None:
    """The process has come to one of `POINTS`."""
    if _armed is not None:
        _armed.reach(point)


def _parsed(text: str) -> _Fault:
    match = re.fullmatch(r"(\w+) ([\w-]+) (\d+)(?:-(\d+))?", text)
    if match is None or match[1] not in ACTIONS or match[2] not in POINTS:
        raise ValueError(
            f"{VARIABLE}={text!r}: give ACTION POINT NUMBER, the action one of {', '.join(ACTIONS)}, "
            f"the point one of {', '.join(POINTS)}"
        )
    return _Fault(match[1], match[2], int(match[3]), int(match[4] or match[3]))
