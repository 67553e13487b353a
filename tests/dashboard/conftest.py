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

from chromium import Browser, start_chromium
from harness import ROOT, SMALL, environment
from store_factory import LAYERS, Factory, LiveServer, fill


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


def begin(store: Path, ready: Path, *flags: str) -> tuple[str, subprocess.Popen]:
    """A dashboard process on a free port, up when this returns."""
    command = [sys.executable, "-m", "dashboard", "--store", str(store), "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(
        [*command, *flags], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the dashboard did not start within 60 s"
        time.sleep(0.05)
    return json.loads(ready.read_text())["url"].rstrip("/"), process


def end(process: subprocess.Popen) -> None:
    """Ends a dashboard process."""
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.fixture(scope="session")
def filled_url(filled, tmp_path_factory) -> Iterator[str]:
    """The address of one dashboard over the filled store. No server is up, so nothing moves by itself."""
    address, process = begin(filled, tmp_path_factory.mktemp("served") / "ready.json")
    yield address
    end(process)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., tuple[str, subprocess.Popen]]]:
    """Starts dashboard processes on free ports and ends them after the test."""
    running: list[subprocess.Popen] = []

    def one_more(store: Path, *flags: str) -> tuple[str, subprocess.Popen]:
        address, process = begin(store, tmp_path / f"ready{len(running)}.json", *flags)
        running.append(process)
        return address, process

    yield one_more
    for process in running:
        end(process)


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """One headless Chromium for all tests; each opens its own address."""
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def live(tmp_path) -> Iterator[LiveServer]:
    """A growing store with the full-size layers of a ResNet-18, two snapshots a second."""
    factory = Factory(tmp_path / "store", LAYERS)
    server = LiveServer(factory, "r1", fill(factory, snapshots=30))
    yield server
    if not server._stop.is_set():
        server.stop()
    factory.close()
