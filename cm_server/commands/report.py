"""``concept-monitor report RUN``: a run as one HTML file; the dashboard's program, which this starts in its place."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Replaces this process by ``python -m dashboard.report``."""
    if importlib.util.find_spec("dash") is None:
        raise ModuleNotFoundError("dash", name="dash")
    os.execv(sys.executable, [sys.executable, "-m", "dashboard.report", *arguments])
