"""SIGTERM to a real server: what clients have handed over is committed and acknowledged, and the process is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from cm_client.probe import digest
from cm_client.protocol import decode, encode
from cm_client.protocol.messages import (
    CaptureAck,
    CaptureChunk,
    CaptureStart,
    Hello,
    ProbeAck,
    ProbeChunk,
    ProbeStart,
    Welcome,
)
from cm_server.events import read_discovery
from cm_server.stores.reader import StoreReader

PROBES, UNITS = 128, 96


class Client:
    """A client's side of the wire, one message at a time."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._number = 0

    def say(self, message: object) -> None:
        self._number += 1
        self._socket.send_multipart(encode(message, "r", "e", self._number))

    def hears(self, kind: type, seconds: float = 60.0) -> object:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._socket.poll(int(left * 1000)):
                message = decode(self._socket.recv_multipart()).message
                if isinstance(message, kind):
                    return message
        pytest.fail(f"no {kind.__name__} within {seconds:g} s")

    def close(self) -> None:
        self._context.destroy(linger=0)


def _hand_over(client: Client, captures: int) -> None:
    """A probe set and captures that the server has taken, as the last one's chunks are behind all others."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (PROBES, 8, 8, 3), dtype=np.uint8)
    fingerprint = digest(images)
    client.say(Hello("r", "Net", -1, time.time(), "test", "here", 1))
    client.hears(Welcome)
    client.say(ProbeStart(fingerprint, PROBES, 8, 8, "test"))
    client.say(ProbeChunk(fingerprint, 0, images))
    client.hears(ProbeAck)
    for number in range(captures):
        client.say(CaptureStart(number, 10 * number, time.time(), fingerprint, PROBES, [["layer", UNITS]]))
        client.say(CaptureChunk(number, 0, 0, random.normal(size=(PROBES, UNITS)).astype(np.float32)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Client]]]:
    begun: list[tuple[subprocess.Popen[str], Client]] = []

    def start(*flags: str) -> tuple[subprocess.Popen[str], Client]:
        places = ["--store", str(tmp_path / "store"), "--cache", str(tmp_path / "cache"), "--encoder", "planted"]
        listen = ["--listen", "tcp://127.0.0.1:0", "--events", "tcp://127.0.0.1:0", "--projection", "pca"]
        command = [sys.executable, "-m", "cm_server.cli", "server", *places, *listen, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 60
        while (found := read_discovery(tmp_path / "store") or {}).get("pid") != process.pid:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        begun.append((process, Client(str(found["ingest"]))))
        return begun[-1]

    yield start
    for process, client in begun:
        client.close()
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_what_was_handed_over_is_committed_and_acknowledged(server, tmp_path: Path) -> None:
    process, client = server("--http", "127.0.0.1:0", "--log-format", "json", "--stop-seconds", "60")
    _hand_over(client, captures=6)
    client.hears(CaptureAck)  # the first of them: the others are with the analysis, or on their way to it
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait(90) == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert any("health and metrics http://127.0.0.1:" in line["message"] for line in lines)
    reader = StoreReader(tmp_path / "store")
    committed = {snapshot.capture for snapshot in reader.snapshots("r")}
    acknowledged = {0} | _acks(client)
    assert acknowledged == committed, "nothing is acknowledged that is not there, and nothing there is kept quiet"
    reader.close()


def _acks(client: Client) -> set[int]:
    found = set()
    while client._socket.poll(500):
        message = decode(client._socket.recv_multipart()).message
        if isinstance(message, CaptureAck):
            found.add(message.capture)
    return found


def test_a_stop_that_may_take_no_time_leaves_captures_to_their_clients(server, tmp_path: Path) -> None:
    process, client = server("--stop-seconds", "0", "--bootstrap", "400")
    _hand_over(client, captures=8)
    client.hears(CaptureAck)
    os.kill(process.pid, signal.SIGTERM)
    said = process.stdout.read()
    code = process.wait(60)
    reader = StoreReader(tmp_path / "store")
    committed = {snapshot.capture for snapshot in reader.snapshots("r")}
    reader.close()
    assert {0} | _acks(client) == committed
    left = re.search(r"(\d+) captures are left to their clients", said)
    assert code == (1 if left else 0)
    if left:
        assert len(committed) + int(left[1]) <= 8


def test_health_and_metrics_of_a_real_server(server) -> None:
    process, client = server("--http", "127.0.0.1:0")
    line = process.stdout.readline()
    address = line.rsplit(" ", 1)[1].strip()
    _hand_over(client, captures=2)
    for _ in range(2):
        client.hears(CaptureAck)
    client.say(CaptureStart(7, 70, 0.0, "ff", 64, [["layer", 4]]))
    client.hears(CaptureAck)
    with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
        assert json.load(answer) == {"ok": True, "phase": "serving"}
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = dict(re.findall(r"^(concept_monitor_\S+) (\S+)$", text, re.MULTILINE))
    assert float(found['concept_monitor_captures_total{outcome="committed"}']) == 2
    assert float(found['concept_monitor_captures_total{outcome="refused"}']) == 1
    assert float(found["concept_monitor_sessions"]) == 1
    assert float(found["concept_monitor_messages_total"]) >= 8
    assert float(found["concept_monitor_received_bytes_total"]) > 2 * PROBES * UNITS * 2
    assert float(found['concept_monitor_stage_seconds_count{stage="commit"}']) == 2
    assert "layer" not in text, "nothing of a client's making"
