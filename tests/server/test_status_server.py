"""Health checks and metrics over real HTTP, and what makes them change their mind."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cm_server import status_server
from cm_server.metrics import Metrics
from cm_server.status_server import MOST_CONNECTIONS, StatusError, StatusServer
from cm_server.vitals import SERVING, STALL_SECONDS, STOPPING, Vitals


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(tmp_path: Path, clock: Clock) -> Vitals:
    return Vitals(tmp_path, clock)


@pytest.fixture
def served(vitals: Vitals) -> Iterator[StatusServer]:
    server = StatusServer("127.0.0.1:0", vitals, Metrics().registry)
    server.start()
    yield server
    server.close()


def _get(server: StatusServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_server_is_ready_between_its_start_and_its_stop(served: StatusServer, vitals: Vitals) -> None:
    assert _get(served, "/healthz")[0] == 200, "a server that still loads its encoder lives"
    status, said = _get(served, "/readyz")
    assert (status, json.loads(said)["reason"]) == (503, "the server is starting")
    vitals.phase = SERVING
    assert _get(served, "/readyz") == (200, '{"ok": true, "phase": "serving"}\n')
    vitals.phase = STOPPING
    assert _get(served, "/readyz")[0] == 503
    assert _get(served, "/healthz")[0] == 200, "nothing is gained by killing what commits"
    assert _get(served, "/else")[0] == 404


def test_a_loop_that_hangs_is_dead_until_it_comes_round(vitals: Vitals, clock: Clock) -> None:
    clock.now += 10 * STALL_SECONDS
    assert vitals.dead() == "", "still starting"
    vitals.phase = SERVING
    vitals.beat()
    clock.now += STALL_SECONDS
    assert vitals.dead() == ""
    clock.now += 1
    assert "61 s" in vitals.dead()
    assert vitals.unready() == vitals.dead()
    vitals.beat()
    assert (vitals.dead(), vitals.unready()) == ("", "")


def test_a_store_in_trouble_is_not_ready_and_never_dead(vitals: Vitals) -> None:
    vitals.phase = SERVING
    vitals.beat("/secret/place/store: no space left")
    assert vitals.unready() == "the store cannot be written: see the log"
    assert vitals.dead() == ""
    vitals.beat()
    assert vitals.unready() == ""


def test_metrics_are_what_prometheus_reads(served: StatusServer) -> None:
    families = {family.name: family for family in text_string_to_metric_families(_get(served, "/metrics")[1])}
    captures = [s for s in families["concept_monitor_captures"].samples if s.name.endswith("_total")]
    outcomes = {s.labels["outcome"]: s.value for s in captures}
    assert outcomes == {"committed": 0, "failed": 0, "refused": 0, "dropped": 0}
    assert "process_resident_memory_bytes" in families


def test_many_idle_connections_leave_room_again(served: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "SECONDS", 0.2)
    host, port = status_server.split(served.address)
    idle = [socket.create_connection((host, port), timeout=10) for _ in range(3 * MOST_CONNECTIONS)]
    for one in idle:
        with one:
            assert one.recv(1) == b"", "cut, or refused at once: nobody holds a place for long"
    assert _get(served, "/healthz")[0] == 200


@pytest.mark.parametrize("address", ["7803", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":7803", "127.0.0.1:²"])
def test_an_address_that_makes_no_sense_is_refused_in_words(address: str, vitals: Vitals) -> None:
    with pytest.raises(StatusError, match="give HOST:PORT"):
        StatusServer(address, vitals, Metrics().registry)


def test_an_address_in_use_names_the_option(served: StatusServer, vitals: Vitals) -> None:
    with pytest.raises(StatusError, match="with --http"):
        StatusServer(served.address, vitals, Metrics().registry)
