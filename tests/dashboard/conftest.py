"""A filled store, and a dashboard process over a store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import ROOT, SMALL, environment
from store_factory import Factory, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory) -> Path:
    """A store with one run of 39 snapshots in two small layers, one gap, two alerts. Do not write to it."""
    directory = tmp_path_factory.mktemp("filled")
    factory = Factory(directory, SMALL, words=150)
    fill(factory)
    factory.alert("r1", 500, "layer2")
    factory.alert(
        "r1", 300, "layer1", severity="info", rule="ConceptPlateau", state="resolved", message="<b>settled</b>"
    )
    factory.close()
    return directory


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., tuple[str, subprocess.Popen]]]:
    """Starts dashboard processes on free ports and ends them after the test."""
    running: list[subprocess.Popen] = []

    def begin(store: Path, *flags: str) -> tuple[str, subprocess.Popen]:
        ready = tmp_path / f"ready{len(running)}.json"
        command = [
            sys.executable,
            "-m",
            "dashboard",
            "--store",
            str(store),
            "--port",
            "0",
            "--ready-file",
            str(ready),
            *flags,
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running.append(process)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "the dashboard did not start within 60 s"
            time.sleep(0.05)
        return json.loads(ready.read_text())["url"].rstrip("/"), process

    yield begin
    for process in running:
        process.terminate()
        process.wait(20)
        process.stdout.close()
