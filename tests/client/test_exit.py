"""How a training process ends, and what must have arrived or be in the spool then. Real processes, real signals."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models import Small, train
from wire_server import WireServer

import cm_client
from cm_client.protocol import messages as m
from cm_client.spool import Leftover
from cm_client.spool_folders import find, take_over

SCRIPT = """
    import os, signal, sys, time, torch
    import cm_client
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = cm_client.watch(model, server=sys.argv[1], run="script", probe_size=32, every=2, config={"lr": 0.1})
    for _ in range(6):
        model(torch.randn(16, 3, 16, 16)).sum().backward()
        optimiser.step()
        monitor.log(loss=1.0)
    def kept():
        stats = monitor.stats()
        return stats["captures_unacked"] == 3 and stats["scalars_unacked"] == 6
"""
KEPT = """
    while not kept():
        time.sleep(0.01)
    print("kept", flush=True)
"""

CTRL_C = (
    # Started in the background, a shell has it ignored.
    "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
)


def start(address: str, more: str = "") -> subprocess.Popen[str]:
    code = textwrap.dedent(SCRIPT) + textwrap.dedent(more)
    command = [sys.executable, "-c", code, address]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def left_behind() -> Leftover:
    """What is in the one spool there is; it can be read only once its process is dead."""
    found = find(Path(os.environ["XDG_STATE_HOME"]) / "concept-monitor" / "spool")
    assert len(found) == 1
    spool = take_over(found[0])
    assert spool is not None
    left = spool.leftover()
    assert spool.hello.config == {"lr": 0.1}
    spool.close(done=False)
    return left


@pytest.mark.parametrize(
    ("more", "code", "status"),
    [
        ("sys.exit(3)", 3, "finished"),
        ("raise KeyError('mine')", 1, "failed"),
        (CTRL_C, -signal.SIGINT, "failed"),
    ],
    ids=["sys.exit", "an exception", "Ctrl-C"],
)
def test_an_end_that_python_sees_sends_everything(server: WireServer, more: str, code: int, status: str) -> None:
    returned, errors = ended(start(server.address, more))
    assert returned == code, errors
    assert "cm_client" not in errors
    assert server.of(m.Finish)[0].status == status
    assert [start.step for start, _ in server.captures().values()] == [0, 2, 4, 6]
    assert sum(len(batch.rows) for batch in server.of(m.ScalarBatch)) == 6
    assert find(Path(os.environ["XDG_STATE_HOME"])) == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "os._exit"])
def test_an_end_that_python_does_not_see_leaves_everything_in_the_spool(nowhere: str, how: str) -> None:
    process = start(nowhere, KEPT + ("    os._exit(7)" if how == "os._exit" else "    time.sleep(60)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "kept\n"
    if how != "os._exit":
        process.send_signal(getattr(signal, how))
    code, _ = ended(process)
    assert code == (7 if how == "os._exit" else -getattr(signal, how))
    left = left_behind()
    assert [step for _, step, _ in left.captures] == [0, 2, 4]
    assert (left.rows, left.row_count) == ((0, 5), 6)
    assert left.finish is None


def test_without_a_server_the_end_is_quick_and_everything_is_kept(nowhere: str) -> None:
    _, errors = ended(start(nowhere))
    assert errors.count("WARNING") + errors.count("no server at") == 1
    left = left_behind()
    assert [step for _, step, _ in left.captures] == [0, 2, 4, 6]
    assert left.row_count == 6
    assert left.finish is not None
    assert left.finish.status == "finished"


def test_without_a_spool_what_is_not_acked_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CM_SPOOL", "off")
    server = WireServer(ack_captures=False).start()
    model = Small()
    monitor = cm_client.watch(model, server=server.address, run="off", probe_size=32)
    train(model, 3, log=monitor.log)
    assert server.wait_for(lambda: server.captures())
    monitor.finish(timeout=1.0)
    assert "of run 'off' could not be sent and are lost" in caplog.text
    server.kill()


def test_offline_only_the_spool_has_it(monkeypatch: pytest.MonkeyPatch, server: WireServer) -> None:
    model = Small()
    monkeypatch.setenv("CM_MODE", "offline")
    monitor = cm_client.watch(model, server=server.address, run="quiet", every=2, probe_size=32, config={"lr": 0.1})
    train(model, 6, log=monitor.log)
    monitor.finish()
    left = left_behind()
    assert [step for _, step, _ in left.captures] == [0, 2, 4, 6]
    assert left.row_count == 6
    assert server.envelopes == []


def test_offline_without_a_spool_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CM_SPOOL", "off")
    model = Small()
    cm_client.watch(model, mode="offline")
    assert "nothing would be kept; set CM_SPOOL to a folder" in caplog.text
    assert not model._forward_pre_hooks


STOPPED = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from wire_server import WireServer
    server = WireServer().start()
    print(server.address, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hindrances() -> Iterator[Callable[[str], tuple[str, Callable[[], None]]]]:
    """Servers that do not do their part: an address, and what makes it bad once it was good."""
    closing: list[Callable[[], object]] = []

    def make(kind: str) -> tuple[str, Callable[[], None]]:
        if kind == "acks withheld":
            full = WireServer(ack_captures=False, ack_scalars=False).start()
            closing.append(full.kill)
            return full.address, lambda: None
        if kind == "a black hole":
            hole = socket.create_server(("127.0.0.1", 0))
            closing.append(hole.close)
            return f"tcp://127.0.0.1:{hole.getsockname()[1]}", lambda: None
        if kind == "no such host":
            return "tcp://no-such-host.invalid:7801", lambda: None
        code = [sys.executable, "-c", textwrap.dedent(STOPPED), str(Path(__file__).parent)]
        frozen = subprocess.Popen(code, text=True, stdout=subprocess.PIPE)
        closing.append(lambda: (frozen.send_signal(signal.SIGCONT), frozen.kill(), frozen.communicate()))
        assert frozen.stdout is not None
        return frozen.stdout.readline().strip(), lambda: frozen.send_signal(signal.SIGSTOP)

    yield make
    for close in closing:
        close()


@pytest.mark.parametrize("kind", ["acks withheld", "a black hole", "no such host", "frozen"])
def test_watching_begins_at_once_and_ends_in_time_whatever_the_server_does(
    kind: str, hindrances: Callable[[str], tuple[str, Callable[[], None]]], caplog: pytest.LogCaptureFixture
) -> None:
    address, go_bad = hindrances(kind)
    model = Small()
    started = time.monotonic()
    monitor = cm_client.watch(model, server=address, run="hindered", every=2, probe_size=32, config={"lr": 0.1})
    assert time.monotonic() - started < 1.0
    train(model, 3, log=monitor.log)
    if kind in ("frozen", "acks withheld"):
        deadline = time.monotonic() + 10
        while not monitor.stats()["connected"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    go_bad()
    train(model, 3, log=monitor.log)
    started = time.monotonic()
    monitor.finish(timeout=1.5)
    assert time.monotonic() - started < 1.5 + 1.0, "the deadline is the whole of it"
    assert monitor._transport is not None
    assert monitor._transport.wait(time.monotonic() + 10.0)
    left = left_behind()
    assert [step for _, step, _ in left.captures][-1] == 6
    assert left.finish is not None
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1, told


def test_several_monitors_share_one_deadline_at_the_end_of_the_process() -> None:
    server = WireServer(ack_captures=False, ack_scalars=False).start()
    more = """
        others = [torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2)) for _ in range(3)]
        watched = [cm_client.watch(o, server=sys.argv[1], run=f"o{i}", probe_size=32) for i, o in enumerate(others)]
        for o in others:
            for _ in range(3):
                o(torch.randn(16, 3, 16, 16)).sum().backward()
        while not all(one.stats()["connected"] for one in watched):
            time.sleep(0.01)
        print(time.time(), flush=True)
    """
    process = start(server.address, more)
    output, _ = process.communicate(timeout=60)
    assert time.time() - float(output) < 10.0 + 5.0, "four times ten seconds would be forty"
    assert len({e.run for e in server.envelopes if isinstance(e.message, m.Finish)}) == 4, "each said its last word"
    server.kill()


def test_a_predecessors_leftovers_are_sent_by_the_next_process_of_the_run(nowhere: str, server: WireServer) -> None:
    process = start(nowhere, KEPT + "    time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    ended(process)
    model = Small()
    monitor = cm_client.watch(model, server=server.address, run="script", start_step=4, probe_size=32)
    assert server.wait_for(lambda: any(isinstance(e.message, m.Finish) for e in server.envelopes))
    late = [e for e in server.envelopes if isinstance(e.message, m.Hello) and e.message.backfill]
    assert len({e.epoch for e in late}) == 1
    mine = [e.message for e in server.envelopes if e.epoch == late[0].epoch]
    assert [x.step for x in mine if isinstance(x, m.CaptureStart)] == [0, 2, 4]
    assert [x.status for x in mine if isinstance(x, m.Finish)] == ["lost"]
    assert next(x.start_step for x in server.of(m.Hello) if not x.backfill) == 4
    monitor.finish()
    assert server.wait_for(lambda: not find(Path(os.environ["XDG_STATE_HOME"]) / "concept-monitor" / "spool"))


@pytest.mark.parametrize(("start_step", "warned"), [(None, True), (40, False)])
def test_a_process_that_counts_anew_in_a_known_run_is_told_so(
    start_step: int | None, warned: bool, server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.known_step = 100
    model = Small()
    monitor = cm_client.watch(model, server=server.address, run="again", start_step=start_step, probe_size=32)
    train(model, 3, log=monitor.log)
    monitor.finish()
    assert ("is known up to step 100" in caplog.text) == warned
    steps = [start.step for start, _ in server.captures().values()]
    assert steps == ([0, 3] if start_step is None else [40, 43])
    rows = [row[1] for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert rows == [step + (start_step or 0) for step in (1, 2, 3)]
