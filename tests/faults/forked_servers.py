"""Starts real servers in a tenth of the time: forks of a process that has imported everything and done nothing yet.

``python forked_servers.py`` reads one JSON object a line: ``arguments`` of ``concept-monitor server``, ``environment``,
``log`` and ``segment_bytes``; it answers with the process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm_server.events import DISCOVERY_FILE, read_discovery

START_SECONDS = 60.0


@dataclass
class Server:
    """A running server process; ``address`` is where clients go."""

    pid: int
    address: str
    events: str
    log: Path

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self.signal(signal.SIGKILL)
        wait_for(lambda: not self.alive, "the server is dead")

    def stop(self) -> None:
        """Asks it to end."""
        self.signal(signal.SIGTERM)
        wait_for(lambda: not self.alive, "the server has ended")

    def says(self, words: str) -> bool:
        return words in self.log.read_text(errors="replace")


class Servers:
    """Starts servers by forking.

    Args:
        process: of `nursery`.
        cache: their common cache.
        logs: folder of their logs.
    """

    def __init__(self, process: subprocess.Popen[str], cache: Path, logs: Path) -> None:
        self._process, self._cache, self._logs = process, cache, logs
        self.started: list[Server] = []

    def start(self, store: Path, fault: str = "", segment_bytes: int = 0, **environment: str) -> Server:
        """Starts one on a store and waits until it listens; one that dies on the way has ``address`` empty."""
        with suppress(FileNotFoundError):
            (store / DISCOVERY_FILE).unlink()
        log = self._logs / f"server-{len(self.started)}.log"
        options = {"store": store, "cache": self._cache, "encoder": "planted", "projection": "pca"}
        options |= {"listen": "tcp://127.0.0.1:0", "events": "tcp://127.0.0.1:0", "threads": 1}
        arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        given = {"arguments": arguments, "environment": environment | {"CM_FAULT": fault}, "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(given | {"segment_bytes": segment_bytes}) + "\n")
        self._process.stdin.flush()
        server = Server(int(self._process.stdout.readline()), "", "", log)
        self.started.append(server)
        wait_for(lambda: not server.alive or _found(store, server.pid), f"a server starts; see {log}", START_SECONDS)
        found = _found(store, server.pid) or {}
        server.address, server.events = str(found.get("ingest", "")), str(found.get("events", ""))
        return server


def _found(store: Path, pid: int) -> dict[str, Any] | None:
    found = read_discovery(store)
    return found if found is not None and found["pid"] == pid else None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


@contextmanager
def nursery(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The process that forks."""
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _serve(given: Mapping[str, Any]) -> None:
    from cm_server.cli import main
    from cm_server.stores import segments

    os.environ.update(given["environment"])
    log = os.open(given["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    segments.SEGMENT_BYTES = given["segment_bytes"] or segments.SEGMENT_BYTES
    code = 70
    try:
        code = main(["server", *given["arguments"]])
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _main() -> None:
    import faiss  # noqa: F401
    import torch  # noqa: F401

    from cm_server import service  # noqa: F401
    from cm_server.commands import server  # noqa: F401
    from cm_server.encoders import planted  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead leave no trace, so that their absence can be seen
    _answer("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _serve(json.loads(line))
        _answer(pid)


if __name__ == "__main__":
    _main()
