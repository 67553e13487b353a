"""Children of the training process: loader workers, forks, Hogwild; none of them is a run or hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from compat_harness import batch, both_ways, loop, sgd
from models import Small
from torch import nn
from torch.utils.data import DataLoader
from wire_server import WireServer
from worker_data import Pictures

import cm_client
from cm_client.protocol import messages as m


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_loader_workers(context: str, workers: int, server: WireServer) -> None:
    children: set[int] = set()

    def script(watch: Any) -> Any:
        model = Small()
        monitor = watch(model)
        data = Pictures(model, monitor if context == "fork" else None)
        loader = DataLoader(data, 4, shuffle=True, num_workers=workers, multiprocessing_context=context)
        optimiser, losses = sgd(model), []
        for x, y, pids, alive in loader:
            assert not alive.any()
            children.update(pids.tolist())
            loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return [model, optimiser, losses]

    assert both_ways(script, server).steps == [0, 2, 4, 5]
    assert os.getpid() not in children
    assert {hello.pid for hello in server.of(m.Hello)} == {os.getpid()}
    assert len({e.run for e in server.envelopes}) == 1
    assert not server.of(m.ScalarBatch)


FORKING = """
import os, sys
sys.path.insert(0, {tests!r})
import torch, cm_client
from models import Small, train
torch.set_num_threads(1)
model = Small()
monitor = cm_client.watch(model, server={server!r}, every=2, probe_size=16)
train(model, 3)
for kind in ("silent", "watching"):
    child = os.fork()
    train(model, 3, log=monitor.log)
    if child == 0:
        monitor.finish()
        assert not monitor.watching
        if kind == "watching":
            cm_client.watch(model, server={server!r}, run="child")
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_trains_on_unseen_until_it_watches_itself(server: WireServer) -> None:
    code = FORKING.format(tests=str(Path(__file__).parents[1]), server=server.address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (parent,) = {e.run for e in server.envelopes} - {"child"}
    assert [start.step for start, _ in server.captures(parent).values()] == [0, 2, 4, 6, 8, 9]
    hellos = {e.run: e.message.pid for e in server.envelopes if isinstance(e.message, m.Hello)}
    assert hellos.keys() == {parent, "child"}
    assert hellos[parent] != hellos["child"]
    rows = [row for e in server.envelopes if isinstance(e.message, m.ScalarBatch) for row in e.message.rows]
    assert [row[1] for row in rows] == [4, 5, 6, 7, 8, 9]


def hogwild(model: nn.Module) -> None:
    """What a child does: move the shared weights after a forward (torch forbids a backward after some forks)."""
    torch.set_num_threads(1)
    model(batch()[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_torch_multiprocessing_shares_a_watched_model(server: WireServer) -> None:
    model = Small()
    model.share_memory()
    monitor = cm_client.watch(model, server=server.address, every=2, probe_size=8)
    loop(model, steps=2)
    before = model.head.weight.detach().clone()
    process = torch.multiprocessing.get_context("fork").Process(target=hogwild, args=(model,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not torch.equal(before, model.head.weight)
    assert monitor.stats()["step"] == 2
    monitor.finish()
    assert {hello.pid for hello in server.of(m.Hello)} == {os.getpid()}


def test_the_launchers_rank_is_enough(monkeypatch: pytest.MonkeyPatch, server: WireServer) -> None:
    """``watch`` may come before ``init_process_group``."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = Small()
    assert not cm_client.watch(model, server=server.address).watching
    assert not model._forward_pre_hooks
    monkeypatch.setenv("RANK", "0")
    assert cm_client.watch(model, server=server.address).watching


def test_a_rank_that_is_told_late_stops_watching(
    monkeypatch: pytest.MonkeyPatch, server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    model(batch()[0])
    assert not monitor.watching
    assert "rank 0 is the one that is watched" in caplog.text
