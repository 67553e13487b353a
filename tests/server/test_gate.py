"""Limits on connections, subscriptions and memory: real sockets, counted."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from whole_server import HELLO, Peer, Served, until

from cm_client.protocol import messages as m
from cm_server import connections
from cm_server.commands.keeper import MOST_RESTARTS, WITHIN_SECONDS, Keeper
from cm_server.commands.processes import Child
from cm_server.connections import ConnectionLimit, allowed_connections, prepare
from cm_server.events import EventPublisher, EventSubscriber
from cm_server.guards import Guards
from cm_server.memory import LEAST, RESTART_STATUS, MemoryCeiling, machine_memory, resident


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_those_who_are_in_stay_in_and_the_rest_are_cut_until_there_is_room(tmp_path: Path) -> None:
    served = Served(tmp_path, Guards(connections=2))
    address = served.running.listen
    inside = [Peer(address) for _ in range(2)]
    assert [type(peer.ask(HELLO, f"run{i}")) for i, peer in enumerate(inside)] == [m.Welcome] * 2
    idle = [socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) for _ in range(40)]
    assert until(lambda: served.running._gate.figures["cut"] >= 40)
    assert served.running._gate.figures["connections"] == 2
    assert all(_is_over(connection) for connection in idle)
    assert [type(peer.ask(m.Heartbeat({}), f"run{i}")) for i, peer in enumerate(inside)] == [m.Pong] * 2
    inside[0].close()
    late = Peer(address)
    late.say(HELLO, "late")
    assert isinstance(late.hear(), m.Welcome), "it tries again by itself, and now there is room"
    late.close()
    inside[1].close()
    served.stop()


def _is_over(connection: socket.socket) -> bool:
    connection.settimeout(20)
    with connection:
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
    return True


def test_who_never_finishes_the_handshake_is_cut(context: zmq.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_MS", 200)
    router = context.socket(zmq.ROUTER)
    prepare(router)
    limit = ConnectionLimit(router, 10)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    silent = socket.create_connection(("127.0.0.1", port))
    assert until(lambda: limit.serve(0.0) or len(limit) == 1)
    assert _is_over(silent)
    assert until(lambda: limit.serve(0.0) or len(limit) == 0)
    limit.close()
    router.close(0)


def test_only_a_connection_of_our_own_port_is_touched(context: zmq.Context) -> None:
    router = context.socket(zmq.ROUTER)
    limit = ConnectionLimit(router, 0)
    router.bind_to_random_port("tcp://127.0.0.1")
    left, right = socket.socketpair()
    for descriptor in (left.fileno(), 0, 10_000):
        assert not limit._shut(descriptor)
    with socket.create_server(("127.0.0.1", 0)) as other:
        mine = socket.create_connection(other.getsockname())
        theirs, _ = other.accept()
        assert not limit._shut(theirs.fileno())
        mine.sendall(b"still open")
        assert theirs.recv(10) == b"still open"
        mine.close()
        theirs.close()
    left.close()
    right.close()
    limit.close()
    router.close(0)


def test_the_limit_is_what_the_system_can_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert allowed_connections(1024) == 1024
    assert asked == [(1152, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert allowed_connections(1024) == 128
    assert "128 connections are all that `ulimit -n` allows" in caplog.text


def test_subscriptions_are_only_remembered_to_what_there_is(context: zmq.Context) -> None:
    publisher = EventPublisher(context, "tcp://127.0.0.1:0")
    subscriber = context.socket(zmq.SUB)
    subscriber.connect(publisher.endpoint)
    for topic in (b"heart", b"nothing of ours", b"snapshot"):
        subscriber.subscribe(topic)
    honest = EventSubscriber(publisher.endpoint, context)

    def hears_all() -> bool:
        publisher.publish("snapshot", "r", 1)
        return subscriber.poll(50) != 0 and bool(list(honest.poll(0.05)))

    assert until(hears_all)
    publisher.publish("heartbeat")
    assert until(lambda: [e.kind for e in honest.poll(0.05)][-1:] == ["heartbeat"])
    kinds = set()
    while subscriber.poll(0):
        kinds.add(subscriber.recv_multipart()[0])
    assert kinds == {b"snapshot"}, "a topic that begins like one of ours is none"
    honest.close()
    subscriber.close(0)
    publisher.close()
    publisher.publish("run", "r")  # after the end: nothing


def test_memory_is_read_and_compared() -> None:
    before = resident()
    assert 2**20 < before < machine_memory()
    assert MemoryCeiling(before // 2).exceeded
    assert not MemoryCeiling(before + 2**30).exceeded
    assert MemoryCeiling().limit >= LEAST


def child(code: str, folder: Path) -> Child:
    process = subprocess.Popen([sys.executable, "-c", code])
    return Child("server", process, folder / "log")


@pytest.mark.parametrize("ending", [f"raise SystemExit({RESTART_STATUS})", "import os; os.kill(os.getpid(), 9)"])
def test_a_server_that_outgrew_its_memory_or_died_is_started_again_but_not_for_ever(
    ending: str, tmp_path: Path
) -> None:
    now = [0.0]

    def again() -> Child:
        started = child(ending, tmp_path)
        started.process.wait()
        return started

    keeper = Keeper(again(), again, lambda: now[0])
    assert [keeper.running for _ in range(MOST_RESTARTS + 1)] == [True] * MOST_RESTARTS + [False]
    now[0] = WITHIN_SECONDS + 1
    assert keeper.running
    assert keeper.ended in ("had grown above its memory ceiling", "was killed by signal 9")


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(1)", "import os; os.kill(os.getpid(), 15)"])
def test_a_server_that_ended_otherwise_stays_down(tmp_path: Path, ending: str) -> None:
    ended = child(ending, tmp_path)
    ended.process.wait()
    keeper = Keeper(ended, lambda: pytest.fail("started again"))
    assert not keeper.running
    assert not keeper.ended


GREETING = bytes([0xFF, *[0] * 7, 0, 0x7F, 3, 1, *b"NULL", *[0] * 16, 0, *[0] * 31])
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def test_an_endless_message_ends_in_a_clean_restart_that_loses_nothing(tmp_path: Path) -> None:
    """The attack itself: a raw peer that sends frames with more to come, for ever."""
    served = Served(tmp_path)
    peer = Peer(served.running.listen)
    assert isinstance(peer.ask(HELLO), m.Welcome)
    assert peer.ask(m.ScalarBatch([[0, 1, 0.0, {"loss": 2.0}]])) == m.ScalarAck(0)
    served.running._ceiling.limit = resident() + 150 * 2**20
    raw = socket.create_connection(("127.0.0.1", int(served.running.listen.rsplit(":", 1)[1])))
    raw.settimeout(20)
    raw.sendall(GREETING + READY)
    heard = b""
    while b"ROUTER" not in heard:  # the server is ready too
        heard += raw.recv(4096)
    frame = b"\x03" + (2**16).to_bytes(8, "big") + b"x" * 2**16
    sent = 0
    try:
        while sent < 2 * 2**30:
            raw.sendall(frame)
            sent += len(frame)
    except OSError:
        pass
    raw.close()
    served._thread.join(60)
    assert served.running.outgrown
    assert sent < 2**30, "long before it would have hurt"
    peer.close()
    again = Served(tmp_path)
    later = Peer(again.running.listen)
    assert isinstance(later.ask(HELLO), m.Welcome)
    assert again.running._reader.scalars("r")[0]["loss"].values.tolist() == [2.0]
    later.close()
    again.stop()


def test_the_command_ends_with_the_status_that_asks_for_a_restart(tmp_path: Path) -> None:
    arguments = ["--store", str(tmp_path / "s"), "--cache", str(tmp_path / "c"), "--encoder", "planted"]
    ports = ["--listen", "tcp://127.0.0.1:0", "--events", "tcp://127.0.0.1:0", "--projection", "pca", "--memory", "1"]
    command = [sys.executable, "-m", "cm_server.cli", "server", *arguments, *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == RESTART_STATUS, done.stderr
    assert "grown above 1 MB and stops, to be started again" in done.stderr
