"""Starting server and dashboard as processes of their own, waiting until they answer, ending them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm_server.events import DISCOVERY_FILE, read_discovery

START_SECONDS = 120.0
_STOP_SECONDS = 15.0


class ProcessError(RuntimeError):
    """A process did not start; the message holds its own last words."""


@dataclass(frozen=True)
class Child:
    """A started process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ending(self) -> str:
        """How it ended, in words."""
        code = self.process.poll()
        if code is None:
            return "is running"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}: {self.last_words()}"

    def last_words(self) -> str:
        """The last line it printed, which is where our programs say what is wrong."""
        with suppress(OSError):
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            return lines[-1] if lines else "it printed nothing"
        return "it printed nothing"


def start_server(store: Path, logs: Path, options: Mapping[str, Any]) -> tuple[Child, dict[str, Any]]:
    """Starts ``concept-monitor server`` and waits until it listens.

    Args:
        store: folder of the store.
        logs: folder for its output.
        options: flags by option name.

    Returns:
        The process, and its addresses ``ingest`` and ``events``.

    Raises:
        ProcessError: it ended, or took longer than `START_SECONDS`.
    """
    with suppress(FileNotFoundError):
        (store / DISCOVERY_FILE).unlink()
    child = _spawn("server", ["cm_server.cli", "server", "--store", str(store), *_flags(options)], logs)
    return child, _await(child, lambda: read_discovery(store))


def start_dashboard(store: Path, logs: Path, options: Mapping[str, Any]) -> tuple[Child, str]:
    """Starts the dashboard and waits until it listens.

    Returns:
        The process and the page's address.

    Raises:
        ProcessError: as for :func:`start_server`.
    """
    ready = logs / "dashboard.json"
    ready.unlink(missing_ok=True)
    arguments = ["dashboard", "--store", str(store), "--ready-file", str(ready), *_flags(options)]
    child = _spawn("dashboard", arguments, logs)
    return child, str(_await(child, lambda: _read_json(ready))["url"])


def spawn_module(name: str, arguments: Sequence[str], logs: Path, environment: Mapping[str, str]) -> Child:
    """Starts ``python -m …`` with output into ``logs/<name>.log``."""
    return _spawn(name, arguments, logs, environment)


def _spawn(name: str, arguments: Sequence[str], logs: Path, environment: Mapping[str, str] | None = None) -> Child:
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{name}.log"
    with path.open("ab") as output:  # one that is started again goes on in the same file
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    return Child(name, process, path)


def _await(child: Child, answer: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = answer()
        if found is not None and found.get("pid") == child.process.pid:
            return found
        if not child.running:
            raise ProcessError(f"the {child.name} did not start: {child.last_words()}")
        time.sleep(0.05)
    child.stop()
    raise ProcessError(f"the {child.name} did not answer within {START_SECONDS:.0f} s; see {child.log}")


def _read_json(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None


def _flags(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag, str(value)] if not isinstance(value, bool) else [flag if value else f"--no-{flag[2:]}"]
    return words
