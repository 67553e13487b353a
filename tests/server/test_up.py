"""``concept-monitor up`` with real processes: what dies under it is started again at the same addresses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cm_server.events import read_discovery

SECONDS = 90.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    places = ["--store", str(tmp_path / "store"), "--cache", str(tmp_path / "cache")]
    ports = ["--listen", "tcp://127.0.0.1:0", "--events", "tcp://127.0.0.1:0", "--port", "0"]
    command = [sys.executable, "-u", "-m", "cm_server.cli", "up", *places, *ports, "--encoder", "planted"]
    with subprocess.Popen([*command, "--projection", "pca"], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def line(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    return next(text for text in process.stdout if text.startswith(start))


def running(process: subprocess.Popen[str], module: str) -> psutil.Process:
    """The child that runs a program."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE and module in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    raise AssertionError(f"no {module} runs")


def test_a_killed_server_and_a_killed_dashboard_are_started_again(up: subprocess.Popen[str], tmp_path: Path) -> None:
    url = line(up, "dashboard")
    before = read_discovery(tmp_path / "store")
    line(up, "Ctrl-C")

    os.kill(running(up, "cm_server.cli").pid, signal.SIGKILL)
    assert "was killed by signal 9 and was started again" in line(up, "the server")
    after = read_discovery(tmp_path / "store")
    assert before is not None
    assert after is not None
    assert after["pid"] != before["pid"]
    assert [after[name] for name in ("ingest", "events")] == [before[name] for name in ("ingest", "events")]

    os.kill(running(up, "dashboard").pid, signal.SIGKILL)
    assert line(up, "dashboard") == url
    assert "was killed by signal 9 and was started again" in line(up, "the dashboard")
