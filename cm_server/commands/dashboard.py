"""``concept-monitor dashboard``: the dashboard is a program of its own, which this starts in place of this process."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Replaces this process by ``python -m dashboard``."""
    if importlib.util.find_spec("dash") is None:
        raise ModuleNotFoundError("dash", name="dash")
    os.execv(sys.executable, [sys.executable, "-m", "dashboard", *arguments])
