"""The sender thread against a real ROUTER socket: lost servers, credit, forks, exits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import numpy as np
import pytest
from wire_server import WireServer

from cm_client.outbox import CaptureItem, ProbeImages
from cm_client.protocol import messages as m
from cm_client.transport import Transport

PROBES = ProbeImages(np.arange(6 * 600 * 200 * 3, dtype=np.uint32).astype(np.uint8).reshape(6, 600, 200, 3), "ab", "x")
HELLO = m.Hello("name", "Net", -1, 0.0, "0", "host", 1, {})


@pytest.fixture
def connect() -> Callable[[str], Transport]:
    def made(address: str) -> Transport:
        transport = Transport(address, "run", HELLO, dict, lambda reason: None)
        transport.start()
        return transport

    return made


def item(number: int, probes: int = 6, units: int = 5) -> CaptureItem:
    values = np.random.default_rng(number).normal(size=(probes, units)).astype(np.float32)
    return CaptureItem(number, number * 10, 1.0, "ab", {"a": values, "b": values * 2})


def test_arrays_larger_than_a_frame_arrive_whole(server: WireServer, connect: Callable[[str], Transport]) -> None:
    transport = connect(server.address)
    transport.set_probes(PROBES)
    sent = item(0, probes=1000, units=700)
    transport.add_capture(sent)
    transport.close(m.Finish("finished", {}), 10)
    assert len(server.of(m.ProbeChunk)) > 1
    assert len(server.of(m.CaptureChunk)) > 4
    np.testing.assert_array_equal(server.probe_images(), PROBES.images)
    _, arrays = server.captures()[0]
    for array, wanted in zip(arrays, sent.layers.values(), strict=True):
        np.testing.assert_array_equal(array, wanted)
    kinds = [type(e.message).__name__ for e in server.envelopes]
    assert kinds[0] == "Hello"
    assert kinds[-1] == "Finish"
    assert kinds.index("ProbeStart") < kinds.index("CaptureStart")
    assert [e.sequence for e in server.envelopes] == sorted({e.sequence for e in server.envelopes})


def test_after_a_servers_death_the_unacked_comes_again_and_the_acked_does_not(
    server: WireServer, connect: Callable[[str], Transport]
) -> None:
    transport = connect(server.address)
    transport.set_probes(PROBES)
    transport.add_capture(item(0))
    transport.add_scalars(0, 0.0, {"loss": 1.0})
    assert server.wait_for(lambda: transport.outbox.empty and server.of(m.ScalarBatch))
    server.ack_captures = server.ack_scalars = False
    transport.add_capture(item(1))
    transport.add_scalars(1, 0.0, {"loss": 2.0})
    assert server.wait_for(lambda: 1 in server.captures() and len(server.of(m.ScalarBatch)) == 2)
    server.kill()
    transport.add_capture(item(2))
    server.envelopes.clear()
    server.ack_captures = server.ack_scalars = True
    server.start()
    transport.close(m.Finish("finished", {}), 15)
    assert sorted(server.captures()) == [1, 2]
    assert [row[0] for batch in server.of(m.ScalarBatch) for row in batch.rows] == [1]
    np.testing.assert_array_equal(server.probe_images(), PROBES.images)
    assert server.of(m.Hello)
    assert server.of(m.Finish)


def test_a_known_probe_set_is_not_sent(connect: Callable[[str], Transport]) -> None:
    server = WireServer()
    server.known_probe = "ab"
    server.start()
    transport = connect(server.address)
    transport.set_probes(PROBES)
    transport.add_capture(item(0))
    transport.close(m.Finish("finished", {}), 10)
    assert 0 in server.captures()
    assert not server.of(m.ProbeStart)
    server.kill()


def test_credit_bounds_what_is_under_way(connect: Callable[[str], Transport]) -> None:
    one = item(0).nbytes
    server = WireServer(credit=2 * one + 1, ack_captures=False).start()
    transport = connect(server.address)
    for number in range(5):
        transport.add_capture(item(number))
    assert server.wait_for(lambda: len(server.captures()) == 2)
    time.sleep(0.3)
    assert len(server.of(m.CaptureStart)) == 2
    server.say(m.CaptureAck(0, "committed"))
    assert server.wait_for(lambda: len(server.captures()) == 3)
    started = time.monotonic()
    transport.close(m.Finish("finished", {}), 0.3)
    assert time.monotonic() - started < 1.5
    assert server.wait_for(lambda: server.of(m.Finish))
    server.kill()


def test_a_server_that_starts_late_gets_everything(
    nowhere: str, connect: Callable[[str], Transport], caplog: pytest.LogCaptureFixture
) -> None:
    transport = connect(nowhere)
    transport.set_probes(PROBES)
    for number in range(3):
        transport.add_capture(item(number))
        transport.add_scalars(number, 0.0, {"loss": 0.0})
    time.sleep(0.5)
    server = WireServer()
    server.port = int(nowhere.rsplit(":", 1)[1])
    server.start()
    assert server.wait_for(lambda: sorted(server.captures()) == [0, 1, 2])
    transport.close(m.Finish("finished", {}), 10)
    assert sum(len(batch.rows) for batch in server.of(m.ScalarBatch)) == 3
    # Of this run: what another test left behind may end meanwhile, and say so.
    assert not [text for text in caplog.messages if repr(transport.run) in text or nowhere in text]
    server.kill()


def test_a_rejected_capture_is_told_once_and_forgotten(
    connect: Callable[[str], Transport], caplog: pytest.LogCaptureFixture
) -> None:
    server = WireServer(ack_captures=False).start()
    transport = connect(server.address)
    transport.add_capture(item(0))
    assert server.wait_for(lambda: server.captures())
    server.say(m.CaptureAck(0, "disk full"))
    assert server.wait_for(lambda: transport.outbox.empty and "disk full" in caplog.text)
    transport.close(m.Finish("finished", {}), 5)
    server.kill()


SCRIPT = """
    import os, sys, time, torch
    import cm_client
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2))
    monitor = cm_client.watch(model, server=sys.argv[1], run="script", probe_size=32, every=2)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(6):
        model(torch.randn(16, 3, 16, 16)).sum().backward()
        optimiser.step()
        monitor.log(loss=1.0)
"""


def script(address: str, more: str, **options: object) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(SCRIPT) + textwrap.dedent(more)
    command = [sys.executable, "-c", code, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


def test_the_end_of_the_process_sends_what_is_left(server: WireServer) -> None:
    done = script(server.address, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.of(m.Finish)[0].status == "finished"
    assert [s.step for s, _ in server.captures().values()] == [0, 2, 4, 6]


def test_a_script_that_dies_is_a_failed_run(server: WireServer) -> None:
    done = script(server.address, "raise KeyError('mine')")
    assert done.returncode == 1
    assert "KeyError: 'mine'" in done.stderr
    assert "cm_client" not in done.stderr
    assert server.of(m.Finish)[0].status == "failed"


def test_without_a_server_the_process_ends_at_once(nowhere: str) -> None:
    done = script(nowhere, "ended = time.time()\nimport atexit\natexit.register(lambda: None)\nprint(ended)")
    assert done.returncode == 0
    assert time.time() - float(done.stdout) < 5
    assert done.stderr.count("no server at") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_end_and_leave_the_run_alone(server: WireServer) -> None:
    more = """
        children = []
        for _ in range(10):
            child = os.fork()
            if not child:
                monitor.log(loss=2.0)
                model(torch.randn(16, 3, 16, 16))
                monitor.finish()
                os._exit(3)
            children.append(child)
        assert all(os.waitpid(child, 0)[1] >> 8 == 3 for child in children)
        monitor.log(loss=3.0)
    """
    done = script(server.address, more)
    assert done.returncode == 0, done.stderr
    rows = [row for batch in server.of(m.ScalarBatch) for row in batch.rows]
    assert [row[3]["loss"] for row in rows] == [1.0] * 6 + [3.0]
    assert len(server.of(m.Finish)) == 1
    assert len({e.epoch for e in server.envelopes}) == 1


def test_importing_the_client_is_light() -> None:
    heavy = ("torch", "torchvision", "zmq", "cm_server", "dashboard", "open_clip", "faiss", "dash", "sqlalchemy")
    code = f"import sys, cm_client, cm_client.protocol; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
    code = (
        "import sys, cm_client; cm_client.watch; print([m for m in ('torchvision', 'cm_server') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_without_torch_the_message_says_so() -> None:
    code = "import sys; sys.modules['torch'] = None; import cm_client; cm_client.watch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cm_client.watch needs torch" in done.stderr
