"""A dashboard process over a store, for a whole module of tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import ROOT, environment


@contextmanager
def served(store: Path, folder: Path) -> Iterator[str]:
    """Serves a store on a free port; yields its address."""
    ready, output = folder / "ready.json", folder / "output.txt"
    command = [sys.executable, "-m", "dashboard", "--store", str(store), "--port", "0", "--ready-file", str(ready)]
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, "the dashboard did not start within 60 s"
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"].rstrip("/")
    finally:
        process.terminate()
        process.wait(20)
