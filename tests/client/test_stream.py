"""Sampling the training's own batches: right rows, nothing disturbed, and clear words where it cannot work."""

from __future__ import annotations

import copy
import importlib
import io
import logging
from typing import Any

import numpy as np
import pytest
import torch
from models import Small, train
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from wire_server import WireServer

import cm_client
from cm_client.protocol import messages as m
from cm_client.window import id_keys

SIZE = 48
OPTIONS: dict[str, Any] = {"sample": "stream", "probe_size": SIZE, "every": 60}


class Means(nn.Module):
    """Layer ``mean`` gives each image's channel means times a weight; an activation can be told from its image."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.mean = _Mean()
        self.head = nn.Linear(3, 2)
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        middle = checkpoint(self.mean, x, use_reentrant=False) if self.again else self.mean(x)
        assert isinstance(middle, Tensor)
        return self.head(middle.mean((2, 3)))


class _Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def loop(model: nn.Module, monitor: cm_client.Monitor, steps: int, ids: bool = False, amp: bool = False) -> None:
    """Trains on pictures with values in 0..1, at a rate of zero: what a layer gives depends on the image alone."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    pictures = torch.rand(400, 3, 8, 8, generator=generator)
    for _ in range(steps):
        chosen = torch.randint(400, (16,), generator=generator)
        if ids:
            monitor.samples(chosen)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            loss = model(pictures[chosen]).sum()
        loss.backward()
        optimiser.step()


def images_of(server: WireServer, capture: int) -> np.ndarray:
    """Asks for a capture's images and waits for them."""
    server.say(m.ImagesWanted(capture, list(range(SIZE))))
    mine = lambda: [s for s in server.of(m.SampleImages) if s.capture == capture]  # noqa: E731
    assert server.wait_for(lambda: sum(len(s.rows) for s in mine()) == SIZE)
    rows = {row: image for s in mine() for row, image in zip(s.rows, s.images, strict=True)}
    return np.stack([rows[row] for row in range(SIZE)])


@pytest.mark.parametrize("way", ["plain", "ids", "checkpointed", "autocast", "compiled"])
def test_every_row_belongs_to_its_image_and_nothing_runs_for_it(server: WireServer, way: str) -> None:
    server.ack_captures = False
    model = Means(again=way == "checkpointed")
    root = torch.compile(model, backend="eager", fullgraph=True) if way == "compiled" else model
    monitor = cm_client.watch(root, server=server.address, layers=["mean"], **OPTIONS)
    calls: list[object] = []
    if way == "plain":
        model.mean.register_forward_pre_hook(lambda *args: calls.append(args))
    loop(root, monitor, 120, ids=way == "ids", amp=way == "autocast")
    assert server.wait_for(lambda: len(server.captures()) == 2)
    for start, (values,) in server.captures().values():
        assert (start.kind, start.probes, start.layers) == ("stream", SIZE, [["mean", 3]])
        assert 0 <= start.step - start.first_step < 40
        images = images_of(server, start.capture)
        # Pictures are rounded to 8 bits, and a mean of 64 of them is nearer than one level.
        np.testing.assert_allclose(values, images.mean((1, 2)) / 255, atol=0.004 if way == "autocast" else 0.001)
    keys = [bytes(key) for chunk in server.of(m.SampleKeys) for key in chunk.keys]
    assert len(set(keys[:SIZE])) == SIZE, "an image counts once in a window"
    assert set(keys[:SIZE]) & set(keys[SIZE:]), "and has the same key in every window"
    assert len(calls) == (120 if way == "plain" else 0), "no forward but the training's own"
    assert not model._forward_hooks
    assert not model.mean._forward_hooks
    monitor.finish(timeout=0)


def test_training_is_bit_identical_with_and_without_sampling(server: WireServer) -> None:
    def run(watch: bool) -> list[Tensor]:
        torch.manual_seed(3)
        model = Small()
        monitor = cm_client.watch(model, server=server.address, **(OPTIONS | {"every": 7})) if watch else None
        optimiser = train(model, 90)
        if monitor is not None:
            monitor.finish()
            assert monitor.stats()["captures"] >= 2
        momenta = [state["momentum_buffer"] for state in optimiser.state.values()]
        return [*model.parameters(), *model.buffers(), *momenta, torch.get_rng_state()]

    assert all(torch.equal(a, b) for a, b in zip(run(False), run(True), strict=True))


def test_layers_are_found_in_the_trainings_own_forward(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    train(model, 60)
    monitor.finish()
    start, _ = server.captures()[0]
    assert start.layers == [["stage1", 8], ["stage2", 16]]
    assert server.of(m.Hello)[0].sample == "stream"
    assert server.of(m.ProbeStart) == []


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_model_compiled_after_watch_is_refused_in_words_and_trains_on(
    server: WireServer, caplog: pytest.LogCaptureFixture, fullgraph: bool
) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    train(torch.compile(model, backend="eager", fullgraph=fullgraph), 3)
    assert not monitor.watching
    assert "watch what the loop calls, cm_client.watch(torch.compile(model))" in caplog.text


def test_steps_are_the_users_where_gradients_are_accumulated(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    for step in range(30):
        train(model, 4)
        monitor.step(step + 1)
    monitor.finish()
    (start, _), *_ = server.captures().values()
    assert start.first_step <= 2
    assert start.step <= 12


def test_a_small_data_set_gives_captures_of_one_size_from_different_images(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **(OPTIONS | {"probe_size": 200}))
    pictures = torch.randn(60, 3, 16, 16)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(400):
        model(pictures[torch.randperm(60)[:16]]).sum().backward()
        optimiser.step()
    monitor.finish()
    starts = [start for start, _ in server.captures().values()]
    assert len(starts) >= 2
    assert {start.probes for start in starts} == {54}, "nine in ten of the sixty there are"


def test_a_short_training_gives_one_capture_of_what_there_was(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **(OPTIONS | {"probe_size": 640}))
    train(model, 5)
    monitor.finish()
    assert [start.probes for start, _ in server.captures().values()] == [64]


def test_a_forward_that_fails_fails_as_ever_and_leaves_nothing_behind(server: WireServer) -> None:
    importlib.import_module("torch._dynamo")  # so that the stance has to be restored as well
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    train(model, 2)
    with pytest.raises(RuntimeError, match="should be the same"):
        model(torch.randn(16, 3, 16, 16, dtype=torch.float64))
    assert not model.stage1._forward_hooks
    torch.save(model, io.BytesIO())
    copy.deepcopy(model)(torch.randn(2, 3, 16, 16))
    train(model, 60)
    assert not model._forward_hooks
    monitor.finish()
    assert len(server.captures()) == 1


def test_ids_that_do_not_fit_are_told_once_and_do_without(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    for _ in range(60):
        monitor.samples(range(3))
        train(model, 1)
    monitor.finish()
    assert caplog.text.count("samples() was given 3 ids before a forward of 16 images") == 1
    assert len(server.captures()) == 1


def test_ids_hold_in_a_window_that_somebody_asked_for_too(server: WireServer) -> None:
    model = Means()
    options = OPTIONS | {"every": 10**9}
    monitor = cm_client.watch(model, server=server.address, layers=["mean"], **options)
    loop(model, monitor, 60, ids=True)
    assert server.wait_for(lambda: len(server.captures()) == 1)
    server.say(m.Request(1, "capture"))
    transport: Any = monitor._transport
    assert server.wait_for(lambda: len(transport.requests) == 1)
    loop(model, monitor, 60, ids=True)
    assert server.wait_for(lambda: len(server.captures()) == 2)
    keys = {bytes(key) for chunk in server.of(m.SampleKeys) for key in chunk.keys}
    assert keys <= set(id_keys(monitor.run, list(range(400))))
    monitor.finish(timeout=0)


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (lambda: Small(), {"probe": cm_client.ProbeSet(np.zeros((40, 8, 8, 3), np.uint8))}, "leave probe= out"),
        (lambda: nn.DataParallel(Small(), [0, 1]), {}, "DataParallel's replicas: use DistributedDataParallel"),
        (lambda: _compiled_in_place(), {}, r"watch that, or sample='probe'"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_words(made, options: dict, said: str, caplog, monkeypatch) -> None:
    monkeypatch.setattr(nn.DataParallel, "__init__", _data_parallel)
    monitor = cm_client.watch(made(), **(OPTIONS | options))
    assert not monitor.watching
    assert said in caplog.text


def _compiled_in_place() -> nn.Module:
    model = Small()
    model.compile(backend="eager")
    return model


def _data_parallel(self: nn.DataParallel, module: nn.Module, device_ids: list[int]) -> None:
    """DataParallel drops its devices where there are no GPUs; what is told from it is their number."""
    nn.Module.__init__(self)
    self.module, self.device_ids = module, device_ids


def test_a_model_without_images_is_told_so(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    for _ in range(12):
        model(torch.randn(8, 4)).sum().backward()
    assert not monitor.watching
    assert "no image (a 4-D float tensor with 1 or 3 channels)" in caplog.text


def test_an_older_server_is_refused_in_words(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    server.samples = "probe"
    model = Small()
    monitor = cm_client.watch(model, server=server.address, **OPTIONS)
    with caplog.at_level(logging.WARNING):
        assert server.wait_for(lambda: not monitor.watching)
    assert "takes no captures of sample='stream'" in caplog.text
