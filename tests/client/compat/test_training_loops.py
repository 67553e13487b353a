"""Loops of every shape: what a step is in each, and that watching changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from compat_harness import EXPECTED, assert_right, batch, both_ways, loop, sgd
from models import Small
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from wire_server import WireServer

import cm_client


def test_gradient_accumulation(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        optimiser = sgd(model)
        for _ in range(5):
            for _ in range(3):
                x, y = batch()
                (nn.functional.cross_entropy(model(x), y) / 3).backward()
            optimiser.step()
            optimiser.zero_grad()
        return [model, optimiser]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_a_model_called_twice_a_step(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        return loop(model, call=lambda model, x: model(x) + model(x.flip(3)))

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_lbfgs_calls_its_closure_as_often_as_it_likes(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model, (x, y) = Small(), batch(8)
        model.stage2[3].p = 0.0
        watch(model)
        optimiser = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        losses = [optimiser.step(closure).detach() for _ in range(5)]
        return [model, losses]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_two_optimisers_for_one_model_make_one_step(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        body = torch.optim.AdamW([*model.stage1.parameters(), *model.stage2.parameters()], 1e-3)
        head = torch.optim.SGD(model.head.parameters(), 0.1)
        for _ in range(5):
            x, y = batch()
            nn.functional.cross_entropy(model(x), y).backward()
            for optimiser in (body, head):
                optimiser.step()
                optimiser.zero_grad()
        return [model, body, head]

    assert both_ways(script, server).steps == EXPECTED


def test_one_optimiser_after_the_other(server: WireServer) -> None:
    """First the head, then everything, by a new optimiser and one that is given its parameters late."""

    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        first = torch.optim.SGD(model.head.parameters(), 0.1)
        other = nn.Linear(1, 1)
        second = torch.optim.SGD(other.parameters(), 0.1)
        for _ in range(3):
            second.step()
        result = loop(model, steps=2, optimiser=first)
        second.add_param_group({"params": list(model.parameters())})
        return [*result, *loop(model, steps=3, optimiser=second)]

    assert both_ways(script, server).steps == EXPECTED


@pytest.mark.parametrize("how", ["data", "no_grad", "functional"])
def test_a_loop_without_an_optimiser_counts_forwards(how: str, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        for _ in range(5):
            x, y = batch()
            nn.functional.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    if how == "data":
                        p.data -= 0.1 * p.grad
                    elif how == "no_grad":
                        p -= 0.1 * p.grad
                    else:
                        p.data = p - 0.1 * p.grad
                    p.grad = None
        return [model]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_an_optimiser_that_steps_in_the_backward(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        optimisers = {p: torch.optim.SGD([p], 0.05, momentum=0.9) for p in model.parameters()}

        def step(parameter: Tensor) -> None:
            optimisers[parameter].step()
            optimisers[parameter].zero_grad()

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        for _ in range(5):
            x, y = batch()
            nn.functional.cross_entropy(model(x), y).backward()
        return [model, list(optimisers.values())]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_the_given_optimiser_is_the_one_that_counts(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        slow, fast = torch.optim.SGD(model.head.parameters(), 0.1), sgd(model)
        watch(model, optimizer=slow)
        for step in range(12):
            loop(model, steps=1, optimiser=fast)
            if step % 2:
                slow.step()
        return [model, slow, fast]

    outcome = both_ways(script, server)
    assert outcome.steps == [0, 2, 4, 6]
    assert_right(outcome)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seed = nn.Linear(6, 8 * 4 * 4)
        self.up1 = nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.up2 = nn.Sequential(nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.up2(self.up1(self.seed(z).view(-1, 8, 4, 4)))


def test_two_models_two_optimisers(server: WireServer) -> None:
    """A GAN with two steps of the discriminator for one of the generator; both watched, each with its own steps."""
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    latent = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    monitors = []

    def script(watch: Any) -> Any:
        real, made = Small(), Generator()
        monitors[:] = [
            watch(real, run="d"),
            watch(made, run="g", probe=cm_client.ProbeSet(images, transform=lambda x: latent)),
        ]
        d, g = torch.optim.Adam(real.parameters(), 1e-3), torch.optim.Adam(made.parameters(), 1e-3)
        for step in range(8):
            x, _ = batch()
            fake = made(torch.randn(4, 6))
            d.zero_grad()
            (real(x).mean() - real(fake.detach()).mean()).backward()
            d.step()
            if step % 2:
                g.zero_grad()
                real(fake).mean().backward()
                g.step()
        return [real, made, d, g]  # fmt: skip

    outcome = both_ways(script, server)
    # The last one is taken before the generator's step, whose forward moves the BatchNorm statistics once more.
    assert outcome.steps == [0, 2, 4, 6, 8]
    outcome.last, outcome.after = outcome.first, outcome.before
    assert_right(outcome)
    starts = [e.message for e in server.envelopes if e.run == "g" and type(e.message).__name__ == "CaptureStart"]
    assert [s.step for s in starts] == [0, 2, 4]
    assert dict(starts[0].layers).keys() <= {"up1", "up2", "seed"}


def test_a_loop_that_ends_takes_its_hooks_along(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small()
    cm_client.watch(model, server=server.address).finish()
    before = len(_global_optimizer_post_hooks), len(_global_optimizer_pre_hooks)
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    assert len(_global_optimizer_post_hooks) == before[0] + 1
    monitor.finish()
    assert (len(_global_optimizer_post_hooks), len(_global_optimizer_pre_hooks)) == before
    # Silenced by an error in the middle of a step: nothing may be taken off there, and everything is at the next watch.
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    monkeypatch.setattr(monitor._recorder.steps, "stepped", lambda optimiser: 1 / 0)
    loop(model, steps=2)
    assert not monitor.watching
    other = Small()
    cm_client.watch(other, server=server.address).finish()
    assert (len(_global_optimizer_post_hooks), len(_global_optimizer_pre_hooks)) == before


def test_scalars_are_logged_under_the_steps_done(server: WireServer) -> None:
    model = Small()
    monitor = cm_client.watch(model, server=server.address)
    optimiser = sgd(model)
    for _ in range(3):
        for _ in range(2):
            x, y = batch()
            nn.functional.cross_entropy(model(x), y).backward()
            monitor.log(micro=1.0)
        optimiser.step()
        monitor.log(macro=1.0)
    monitor.finish()
    rows = [row for e in server.envelopes if type(e.message).__name__ == "ScalarBatch" for row in e.message.rows]
    assert [row[1] for row in rows if "micro" in row[3]] == [0, 0, 1, 1, 2, 2]
    assert [row[1] for row in rows if "macro" in row[3]] == [1, 2, 3]
