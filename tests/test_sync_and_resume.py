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
from cm_server.commands.processes import Child, start_server
from cm_server.stores.reader import StoreReader

TRAINING = """
    import os, sys, time, torch
    import cm_client
    torch.set_num_threads(1)
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU())
    monitor = cm_client.watch(model, server=sys.argv[1], run="run", probe_size=64, every=10)
    first = max(0, int(os.environ.get("CM_START_STEP", 0)))
    for step in range(first, int(sys.argv[2])):
        loss = model(torch.randn(32, 3, 16, 16)).square().mean()
        loss.backward()
        monitor.log(loss=float(step))
    if sys.argv[3:] == ["die"]:
        while monitor.stats()["captures_unacked"] + monitor.stats()["captures_acked"] < monitor.stats()["captures"]:
            time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., str]]:
    started: list[Child] = []

    def start(listen: str = "tcp://127.0.0.1:0") -> str:
        given = {"listen": listen, "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
        given["cache"] = str(tmp_path / "cache")
        child, addresses = start_server(tmp_path / "store", tmp_path / "logs", given)
        started.append(child)
        return str(addresses["ingest"])

    yield start
    for child in started:
        child.stop()


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


def test_a_training_that_never_saw_a_server_is_there_after_sync(server, tmp_path: Path) -> None:
    train("tcp://127.0.0.1:9", 30)
    code, found = sync("--server", "tcp://127.0.0.1:9", "--patience", "1")
    assert (code, found[0]["state"], found[0]["captures_left"]) == (1, "kept", 4)
    assert "no server at" in found[0]["reason"]
    before = time.time()
    address = server()
    code, found = sync(str(default_root(os.environ)), "--server", address)
    assert code == 0
    assert [(one["state"], one["captures"], one["rows"], one["dropped"]) for one in found] == [("sent", 4, 30, 0)]
    assert spools() == []
    reader = StoreReader(tmp_path / "store")
    info = reader.run("run")
    assert info is not None
    assert info.state == "finished"
    assert info.created < before
    assert [snapshot.step for snapshot in reader.snapshots("run")] == [0, 10, 20, 30]
    assert reader.scalars("run")[0]["loss"].values.tolist() == list(range(30))
    assert sync("--server", address) == (0, [])


def test_what_a_killed_process_left_is_there_after_two_syncs_at_once(server, tmp_path: Path) -> None:
    train_and_die("tcp://127.0.0.1:9", 40)
    address = server()
    command = [sys.executable, "-m", "cm_server.cli", "sync", "--json", "--server", address]
    both = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    found = [one for process in both for one in json.loads(process.communicate(timeout=120)[0])]
    assert [one["state"] for one in found].count("sent") == 1
    assert {one["state"] for one in found} <= {"sent", "in use"}
    reader = StoreReader(tmp_path / "store")
    assert [snapshot.step for snapshot in reader.snapshots("run")] == [0, 10, 20, 30]
    assert len(reader.scalars("run")[0]["loss"].steps) == 40
    assert reader.run("run").state == "lost"
    assert reader.gaps("run") == []


def test_a_sync_that_is_killed_goes_on_the_next_time(server, tmp_path: Path) -> None:
    train("tcp://127.0.0.1:9", 200)
    address = server()
    command = [sys.executable, "-m", "cm_server.cli", "sync", "--server", address]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    reader = StoreReader(tmp_path / "store")
    wait(lambda: len(reader.snapshots("run")) >= 2, "the first captures arrive")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    code, found = sync("--server", address)
    assert code == 0
    assert all(one["state"] == "sent" for one in found)
    assert [snapshot.step for snapshot in reader.snapshots("run")] == list(range(0, 201, 10))
    assert len(reader.scalars("run")[0]["loss"].steps) == 200
    assert spools() == []


def test_a_run_resumed_from_a_checkpoint_goes_on_and_never_turns_back(server, tmp_path: Path) -> None:
    """Killed at 60, gone on from a checkpoint at 40, with another seed: other batches, other activations."""
    address = server()
    train_and_die(address, 60)
    reader = StoreReader(tmp_path / "store")
    before = reader.run("run")
    assert before is not None
    train(address, 80, CM_START_STEP="40", SEED="1")
    code, _ = sync("--server", address)  # what the second process had no time left for
    assert (code, spools()) == (0, [])
    info = reader.run("run")
    assert info is not None
    assert (info.state, info.created) == ("finished", before.created)
    assert info.revision > before.revision
    assert info.probe_fingerprint == before.probe_fingerprint, "the probe set is the first process's"
    points = list(reader.series("run").values())[-1]
    assert [point.step for point in points] == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert len({point.epoch for point in points[:4]}) == len({point.epoch for point in points[4:]}) == 1
    assert len({point.summary.fingerprint for point in points}) == 1, "one series, comparable throughout"
    layer = points[0].summary.layer
    _, report = reader.report("run", layer, 40) or (None, None)
    assert report is not None
    assert np.isfinite(report.arrays.shift[report.arrays.live]).all(), "measured against the snapshot before"
    steps = reader.scalars("run")[0]["loss"].steps
    assert (np.diff(steps) > 0).all()
    assert set(range(1, 81)) - set(steps.tolist()) <= {40}, "the step it goes on from is the second process's"
