"""Servers that were away, processes that were killed, runs that go on: client, spool, server process and store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cm_client.spool_folders import default_root, find
from cm_server.commands.processes import start_server
from cm_server.stores.reader import StoreReader

TRAINING = """
    import os, sys, time, torch
    import cm_client
    torch.set_num_threads(1)
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU())
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = cm_client.watch(model, server=sys.argv[1], probe_size=64, every=10)
    first = max(0, int(os.environ.get("CM_START_STEP", 0)))
    for step in range(first, int(sys.argv[2])):
        loss = model(torch.randn(32, 3, 16, 16)).square().mean()
        loss.backward()
        optimiser.step()
        monitor.log(loss=float(step))
    if sys.argv[3:] == ["die"]:
        def kept(what):
            stats = monitor.stats()
            return stats[f"{what}_unacked"] + stats[f"{what}_acked"]
        while kept("captures") < monitor.stats()["captures"] or kept("scalars") < int(sys.argv[2]) - first:
            time.sleep(0.01)
        while "HEARD" in os.environ and not monitor.stats()["captures_acked"]:
            time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[str]:
    """The address of one server for all tests; each has a run of its own."""
    given = {"listen": "tcp://127.0.0.1:0", "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
    child, addresses = start_server(store, store.parent / "logs", given | {"cache": str(store.parent / "cache")})
    yield str(addresses["ingest"])
    child.stop()


@pytest.fixture
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's run: what CM_RUN tells the training processes."""
    name = request.node.name[5:60].replace("_", "-")
    monkeypatch.setenv("CM_RUN", name)
    return name


def train(address: str, steps: int, **environ: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(TRAINING), address, str(steps)]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def train_and_die(address: str, steps: int, **environ: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(TRAINING), address, str(steps), "die"]
    process = subprocess.Popen(command, env={**os.environ, **environ}, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()


def sync(*arguments: str) -> tuple[int, list[dict]]:
    command = [sys.executable, "-m", "cm_server.cli", "sync", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def spools() -> list[Path]:
    return find(default_root(os.environ))


def wait(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_a_training_that_never_saw_a_server_is_there_after_sync(server: str, store: Path, run: str) -> None:
    train("tcp://127.0.0.1:9", 30)
    code, found = sync("--server", "tcp://127.0.0.1:9", "--patience", "1")
    assert (code, found[0]["state"], found[0]["captures_left"]) == (1, "kept", 4)
    assert "no server at" in found[0]["reason"]
    before = time.time()
    code, found = sync(str(default_root(os.environ)), "--server", server)
    assert code == 0
    assert [(one["state"], one["captures"], one["rows"], one["dropped"]) for one in found] == [("sent", 4, 30, 0)]
    assert spools() == []
    reader = StoreReader(store)
    info = reader.run(run)
    assert info is not None
    assert info.state == "finished"
    assert info.created < before
    assert [snapshot.step for snapshot in reader.snapshots(run)] == [0, 10, 20, 30]
    assert reader.scalars(run)[0]["loss"].values.tolist() == list(range(30))
    assert sync("--server", server) == (0, [])


def test_what_a_killed_process_left_is_there_after_two_syncs_at_once(server: str, store: Path, run: str) -> None:
    train_and_die("tcp://127.0.0.1:9", 40)
    command = [sys.executable, "-m", "cm_server.cli", "sync", "--json", "--server", server]
    both = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    found = [one for process in both for one in json.loads(process.communicate(timeout=120)[0])]
    assert [one["state"] for one in found].count("sent") == 1
    assert {one["state"] for one in found} <= {"sent", "in use"}
    reader = StoreReader(store)
    assert [snapshot.step for snapshot in reader.snapshots(run)] == [0, 10, 20, 30]
    assert len(reader.scalars(run)[0]["loss"].steps) == 40
    assert reader.run(run).state == "lost"
    assert reader.gaps(run) == []


def test_a_sync_that_is_killed_goes_on_the_next_time(server: str, store: Path, run: str) -> None:
    train("tcp://127.0.0.1:9", 200)
    command = [sys.executable, "-m", "cm_server.cli", "sync", "--server", server]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    reader = StoreReader(store)
    wait(lambda: len(reader.snapshots(run)) >= 2, "the first captures arrive")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    code, found = sync("--server", server)
    assert code == 0
    assert all(one["state"] == "sent" for one in found)
    assert [snapshot.step for snapshot in reader.snapshots(run)] == list(range(0, 201, 10))
    assert len(reader.scalars(run)[0]["loss"].steps) == 200
    assert spools() == []


def test_a_run_resumed_from_a_checkpoint_goes_on_and_never_turns_back(server: str, store: Path, run: str) -> None:
    """Killed at 60, gone on from a checkpoint at 40, with another seed: other batches, other activations."""
    train_and_die(server, 60, HEARD="1")
    reader = StoreReader(store)
    before = reader.run(run)
    assert before is not None
    train(server, 80, CM_START_STEP="40", SEED="1")
    code, _ = sync("--server", server)  # what the second process had no time left for
    assert (code, spools()) == (0, [])
    info = reader.run(run)
    assert info is not None
    assert (info.state, info.created) == ("finished", before.created)
    assert info.revision > before.revision
    assert info.probe_fingerprint == before.probe_fingerprint, "the probe set is the first process's"
    points = list(reader.series(run).values())[-1]
    assert [point.step for point in points] == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert len({point.epoch for point in points[:4]}) == len({point.epoch for point in points[4:]}) == 1
    assert len({point.summary.fingerprint for point in points}) == 1, "one series, comparable throughout"
    layer = points[0].summary.layer
    _, report = reader.report(run, layer, 40) or (None, None)
    assert report is not None
    assert np.isfinite(report.arrays.shift[report.arrays.live]).all(), "measured against the snapshot before"
    steps = reader.scalars(run)[0]["loss"].steps
    assert (np.diff(steps) > 0).all()
    assert set(range(1, 81)) - set(steps.tolist()) <= {40}, "the step it goes on from is the second process's"
