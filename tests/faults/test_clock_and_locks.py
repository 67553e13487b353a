"""The system at its worst: clocks set back and forth, a locked index, a frozen server, a dashboard that has gone."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zmq
from driving import ROUNDS, assert_same, check_store, connected, content, round_of, settled
from forked_servers import Servers
from promised import Client

from cm_server.events import EventPublisher
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

DAY = 86_400


@pytest.mark.usefixtures("shimmed")
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_clock_set_back_and_forth_changes_neither_order_nor_alerts(
    restart: bool, servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    clock = store.parent / "clock"
    clock.write_text("0")
    server = connected(servers, store, client, CM_CLOCK_FILE=str(clock))
    for number, off in zip(range(ROUNDS), (0, 0, -DAY, -DAY, DAY, 0, -60), strict=True):
        clock.write_text(str(off))
        if restart:
            server.stop()
            server = connected(servers, store, client, CM_CLOCK_FILE=str(clock))
        round_of(client, number)
        assert settled(client, server)
    check_store(store, client)
    server.stop()
    assert_same(content(store), undisturbed)
    reader = StoreReader(store)
    snapshots = reader.snapshots("r")
    assert [s.sequence for s in snapshots] == sorted(s.sequence for s in snapshots)
    if restart:
        times = [s.committed_at for s in snapshots]
        assert times != sorted(times), "the clock really went back"
    reader.close()


def test_gaps_that_come_after_the_clock_was_set_back_are_counted(tmp_path: Path) -> None:
    """What happened later has a higher id; its time may be earlier."""
    writer = StoreWriter(tmp_path)
    writer.save_run("r")
    reader = StoreReader(tmp_path)
    for step in (1, 2):
        writer.add_gap("r", step, "no room")
    with writer.transaction() as connection:
        connection.exec_driver_sql("UPDATE gaps SET time = time - 86400 WHERE step = 2")
    first = reader.gaps("r")[0]
    assert [gap.step for gap in reader.gaps("r", first.id)] == [2]
    reader.close()
    writer.close()


def test_an_index_that_another_process_locks_is_waited_for(
    servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    server = connected(servers, store, client)
    round_of(client, 0)
    assert settled(client, server)
    other = sqlite3.connect(store / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    round_of(client, 1)
    words = "another process has locked its index"
    assert client.until(lambda: server.says(words))
    assert not client.settled
    assert server.alive
    reader = StoreReader(store)
    assert [snapshot.step for snapshot in reader.snapshots("r")] == [0], "it can be read meanwhile"
    reader.close()
    other.execute("ROLLBACK")
    other.close()
    assert settled(client, server)
    for number in range(2, ROUNDS):
        round_of(client, number)
        assert settled(client, server)
    server.stop()
    assert_same(content(store), undisturbed)


@pytest.mark.parametrize("seconds", [1, pytest.param(60, marks=pytest.mark.soak)])
def test_a_frozen_server_goes_on_where_it_was(
    seconds: int, servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    server = connected(servers, store, client)
    for number in range(ROUNDS):
        if number in (1, 3):
            server.signal(signal.SIGSTOP)
        round_of(client, number)
        client.until(lambda: False, seconds if number in (1, 3) else 0)
        server.signal(signal.SIGCONT)
        assert settled(client, server)
    server.stop()
    assert_same(content(store), undisturbed)


def test_a_dashboard_that_reads_no_more_neither_blocks_nor_fills_the_server() -> None:
    """Frozen, then killed; another one is served all the while."""
    context = zmq.Context()
    publisher = EventPublisher(context, "tcp://127.0.0.1:*")
    listen = (
        "import sys; from cm_server.events import EventSubscriber; s = EventSubscriber(sys.argv[1])\n"
        "while True:\n for event in s.poll(1.0): print(event.sequence, flush=True)"
    )
    command = [sys.executable, "-c", listen, publisher.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gone:
        assert gone.stdout is not None
        while not _readable(gone):
            publisher.publish("run", "r")
            time.sleep(0.01)
        gone.send_signal(signal.SIGSTOP)
        started = _memory()
        for step in range(60_000):
            publisher.publish("snapshot", "r" * 64, step)
        assert _memory() - started < 64 * 2**20, "what nobody fetches is dropped"
        gone.send_signal(signal.SIGKILL)
    publisher.publish("run", "r")
    publisher.close()
    context.destroy(linger=0)


def _readable(process: subprocess.Popen[str]) -> bool:
    poller = zmq.Poller()
    assert process.stdout is not None
    poller.register(process.stdout.fileno(), zmq.POLLIN)
    return bool(poller.poll(0))


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
