"""Number formats, memory formats and torch's global switches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from compat_harness import EXPECTED, STEPS, assert_right, batch, both_ways, loop, sgd
from models import Small
from torch import Tensor, nn
from wire_server import WireServer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_the_forward(dtype: torch.dtype, server: WireServer) -> None:
    def call(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype):
            return model(x)

    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        return loop(model, call=call)

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_autocast_inside_the_forward_and_around_the_loop(server: WireServer) -> None:
    """The probe pass must not leave its own casts of the weights in autocast's cache: they carry no gradient."""

    class Inside(Small):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    def script(watch: Any) -> Any:
        model = Inside()
        watch(model)
        with torch.autocast("cpu", torch.bfloat16):
            return loop(model)

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_skipped_by_grad_scaler_do_not_count(fused: bool, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small()
        monitor = watch(model, every=1)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=100)
        for step in range(6):
            x, y = batch()
            with torch.autocast("cpu", torch.float16):
                loss = nn.functional.cross_entropy(model(x).float(), y)
            scaler.scale(loss).backward()
            if step in (1, 3):
                model.head.weight.grad[0, 0] = torch.inf
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad()
        return [model, optimiser, scaler.state_dict(), getattr(monitor, "_never", None)]

    outcome = both_ways(script, server)
    # Six forwards, of which the second and the fourth led to no step; step 1 came while the probe set grew.
    assert outcome.steps == [0, 1, 2, 3, 4]
    assert outcome.monitor.stats()["step"] == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_types(dtype: torch.dtype, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small().to(dtype)
        watch(model)
        return loop(model, call=lambda model, x: model(x.to(dtype)))

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome, tolerance=1e-5 if dtype is torch.float64 else 2e-2)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device_elsewhere() -> Iterator[None]:
    """What the script leaves without a device goes somewhere else; here to a device that holds no values at all."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("switch", [deterministic, default_double, torch.autograd.detect_anomaly])
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
def test_global_switches(switch: Callable[[], Any], server: WireServer) -> None:
    def script(watch: Any) -> Any:
        with switch():
            model = Small()
            watch(model, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
            return loop(model)

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_a_default_device_that_is_not_the_models(server: WireServer) -> None:
    class Placed(Small):
        """Trained on the CPU by a loop that names it everywhere."""

    def script(watch: Any) -> Any:
        model = Placed()
        optimiser, losses = sgd(model), []
        data = [batch() for _ in range(STEPS)]
        with default_device_elsewhere():
            watch(model)
            for x, y in data:
                loss = nn.functional.cross_entropy(model(x), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
        return [model, optimiser, losses]

    outcome = both_ways(script, server)
    assert [s for s in outcome.steps if s != 5] == EXPECTED[:-1]
    assert_right(outcome)


def test_channels_last(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Small().to(memory_format=torch.channels_last)
        watch(model)
        result = loop(model, call=lambda model, x: model(x.to(memory_format=torch.channels_last)))
        return [*result, [p.stride() for p in model.parameters()]]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)
