"""Fixtures of the client's tests: a real server socket, and a clean environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from wire_server import WireServer

from cm_client.monitor import live


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No CM_ variable of the developer's own; one thread; no monitor outlives its test."""
    for name in ("SERVER", "RUN", "NAME", "EVERY", "PLANNED_STEPS", "PROBE_SIZE", "MODE", "STRICT"):
        monkeypatch.delenv(f"CM_{name}", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    for monitor in list(live):
        monitor.finish(timeout=0)
    torch.set_num_threads(threads)


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A started server."""
    started = WireServer().start()
    yield started
    started.kill()


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
