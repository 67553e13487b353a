"""Running the numbered examples in this process: their libraries are loaded already."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import cm_client


def run_example(name: str, *arguments: Any) -> None:
    """Call ``main`` of ``cm_client/examples/<name>.py``."""
    path = Path(cm_client.__file__).parent / "examples" / f"{name}.py"
    runpy.run_path(str(path))["main"](*arguments)
