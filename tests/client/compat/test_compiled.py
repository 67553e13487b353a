"""torch.compile around, inside and after the watching: no graph break, no compilation that were not there anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from compat_harness import EXPECTED, assert_right, batch, both_ways, loop, sgd
from models import Small
from torch import nn
from torch._dynamo.utils import counters
from wire_server import WireServer

import cm_client

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward

    def compile(self, thing: Any) -> Any:
        return torch.compile(thing, backend=self, fullgraph=True)


def compiled_before(watch: Any, counting: Counting) -> nn.Module:
    model = counting.compile(Small())
    watch(model)
    return model


def compiled_before_inner_watched(watch: Any, counting: Counting) -> nn.Module:
    inner = Small()
    model = counting.compile(inner)
    watch(inner)
    return model


def compiled_after(watch: Any, counting: Counting) -> nn.Module:
    model = Small()
    watch(model)
    return counting.compile(model)


def in_place_before(watch: Any, counting: Counting) -> nn.Module:
    model = Small()
    model.compile(backend=counting, fullgraph=True)
    watch(model)
    return model


def in_place_run_before(watch: Any, counting: Counting) -> nn.Module:
    model = Small()
    model.compile(backend=counting, fullgraph=True)
    model(batch()[0])
    watch(model)
    return model


def in_place_after(watch: Any, counting: Counting) -> nn.Module:
    model = Small()
    watch(model)
    model.compile(backend=counting, fullgraph=True)
    return model


def submodules(watch: Any, counting: Counting) -> nn.Module:
    model = Small()
    model.stage1 = counting.compile(model.stage1)
    model.stage2.compile(backend=counting, fullgraph=True)
    watch(model)
    return model


def inside_a_larger_model(watch: Any, counting: Counting) -> nn.Module:
    class Larger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Small()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x * 2) + 1

    model = Larger()
    watch(model.inner)
    return counting.compile(model)


WAYS = [
    compiled_before, compiled_before_inner_watched, compiled_after, in_place_before, in_place_run_before,
    in_place_after, submodules, inside_a_larger_model,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_compiled_whole_and_no_more_often(way: Callable[[Any, Counting], nn.Module], server: WireServer) -> None:
    seen = []

    def script(watch: Any) -> Any:
        torch._dynamo.reset()
        counters.clear()
        counting = Counting()
        model = way(watch, counting)
        watched = getattr(model, "_orig_mod", model)
        result = [getattr(watched, "inner", watched), *loop(model)]
        # Validation in between, as a training would: no further surprise.
        model.eval()
        with torch.no_grad():
            result.append(model(batch()[0]))
        model.train()
        result += loop(model, steps=1, optimiser=result[2])
        seen.append((counting.graphs, dict(counters["graph_break"]), counters["frames"]["total"]))
        return result

    outcome = both_ways(script, server)
    plain, watched = seen
    assert watched == plain
    assert plain[0] > 0
    assert outcome.steps == [0, 2, 4, 6]
    if way is not inside_a_larger_model:
        assert list(outcome.layers) == ["stage1", "stage2"]
    if way in (compiled_before, in_place_before, in_place_run_before, submodules):
        assert_right(outcome)


def test_a_compiled_function_around_the_model(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        torch._dynamo.reset()
        model = Small()
        watch(model)
        loss_of = torch.compile(
            lambda x, y: nn.functional.cross_entropy(model(x), y), backend="aot_eager", fullgraph=True
        )
        optimiser, losses = sgd(model), []
        for _ in range(5):
            loss = loss_of(*batch())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return [model, optimiser, losses]

    assert both_ways(script, server).steps == EXPECTED


def test_inductor_with_reduced_overhead(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        torch._dynamo.reset()
        inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 4))
        model = torch.compile(inner, mode="reduce-overhead", fullgraph=True)
        watch(model, layers=["1"])
        return [inner, *loop(model)]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_a_compiled_optimiser_step_keeps_its_graphs(server: WireServer) -> None:
    seen = []

    def script(watch: Any) -> Any:
        torch._dynamo.reset()
        counters.clear()
        model, counting = Small(), Counting()
        watch(model)
        optimiser = sgd(model)
        step = torch.compile(lambda: optimiser.step(), backend=counting)
        for _ in range(5):
            x, y = batch()
            nn.functional.cross_entropy(model(x), y).backward()
            step()
            optimiser.zero_grad()
        seen.append((counting.graphs, dict(counters["graph_break"])))
        return [model, optimiser]

    outcome = both_ways(script, server)
    assert seen[0] == seen[1]
    assert outcome.steps == EXPECTED


def test_forwards_that_nobody_sees_get_one_warning_with_the_cure(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The model's parts are called without it: only its optimiser shows that it is trained."""

    def script(watch: Any, **more: Any) -> Any:
        model = Small()
        monitor = watch(model, **more)
        result = loop(model, steps=24, call=lambda model, x: model.head(model.stage2(model.stage1(x)).mean((2, 3))))
        return [*result, monitor]

    monitor = script(lambda model, **more: cm_client.watch(model, server=server.address, every=5, **more))[-1]
    monitor.finish()
    assert caplog.text.count("no forward of the watched model") == 1
    assert monitor.stats()["captures"] == 0
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    probe = cm_client.ProbeSet(images)
    outcome = both_ways(lambda watch: script(watch, probe=probe, every=5)[:-1], server)
    assert outcome.steps == [11, 15, 20, 24]
    assert_right(outcome, tolerance=1e9)  # the first is late here; the last must be right
    outcome.first, outcome.before = outcome.last, outcome.after
    assert_right(outcome)
