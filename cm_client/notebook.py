"""Cells that are run again: where in a notebook `watch` was called, and whether this is that call once more."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

_NUMBER = re.compile(r"^<ipython-input-\d+-")


@dataclass(frozen=True)
class Place:
    """A line of a cell (its file is named after its content), and which execution it was."""

    file: str
    line: int
    execution: int


def place() -> Place | None:
    """Where the innermost caller outside of this package is; None outside of IPython, which is never imported here."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is None:
        return None
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "cm_client":
        frame = frame.f_back
    return Place(_NUMBER.sub("<cell-", frame.f_code.co_filename), frame.f_lineno, int(shell.execution_count))


def same_cell_again(before: Place | None, now: Place | None) -> bool:
    """Whether ``now`` is the line of ``before`` in a later execution: not a loop in one cell that watches two models.

    >>> first = Place("cell", 3, 7)
    >>> [same_cell_again(first, Place("cell", 3, n)) for n in (7, 8)]
    [False, True]
    """
    if before is None or now is None:
        return False
    return (before.file, before.line) == (now.file, now.line) and before.execution != now.execution
