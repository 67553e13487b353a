"""What a step pays for being watched where no capture is due: by way of scheduling, beside torch's own price of a hook.

    python tests/bench/hook.py [--json]

A step is a forward of a model that does no work (and an optimiser's step that finds no gradients). Each way of watching
is compared with the same forward unwatched, in turns. ``empty hook`` is a forward pre-hook that does nothing.
``whole step`` has the hooks on optimisers as well, which are torch's global ones: of one and the same watched model the
hooks are taken off and put back, in turns; ``empty hooks`` are three of torch's that do nothing, at the same places.
Given are differences of lower quartiles of the thread's CPU time: whatever else the machine does only adds. Goal:
under 5 µs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from client_sink import Sink
from torch import Tensor, nn

import cm_client

ROUNDS, CALLS = 400, 200
OPTIMISERS: Any = sys.modules["torch.optim.optimizer"]
WAYS: dict[str, dict[str, Any]] = {
    "budget": {"budget": 1e-9},
    "every": {"every": 10**12},
    "stream": {"sample": "stream", "every": 10**12},
    "function": {"every": lambda step: step == 0},
}


class Nothing(nn.Module):
    """Work for the probe pass and for what comes before the measurement, none for a training forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)
        self.idle = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.idle and self.training else self.layer(x)


def _watched(address: str, options: dict[str, Any]) -> tuple[Nothing, cm_client.Monitor]:
    """A model whose first capture is done, and its monitor."""
    model, x = Nothing(), torch.randn(32, 3, 16, 16)
    monitor = cm_client.watch(model, server=address, layers=["layer"], probe_size=32, **options)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    until = time.monotonic() + 30
    while monitor.stats().get("captures_acked", 0) < 1:
        model(torch.randn_like(x)).sum().backward()
        optimiser.step()
        if time.monotonic() > until:
            raise RuntimeError(f"no capture was taken: {monitor.stats()}")
    for _ in range(60):
        model(torch.randn_like(x)).sum().backward()
        optimiser.step()
    model.idle = True
    return model, monitor


def _forward(model: nn.Module, x: Tensor) -> float:
    """Microseconds a forward."""
    began = time.thread_time()
    for _ in range(CALLS):
        model(x)
    return (time.thread_time() - began) / CALLS * 1e6


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor) -> float:
    """Microseconds a step of both."""
    began = time.thread_time()
    for _ in range(CALLS):
        model(x)
        optimiser.step()
    return (time.thread_time() - began) / CALLS * 1e6


def not_due() -> dict[str, float]:
    """Microseconds: of a plain forward, and what each way adds to it; of forward and optimiser's step, the same."""
    x = torch.randn(1, 3, 16, 16)
    plain, hooked = Nothing(), Nothing()
    plain.idle = hooked.idle = True
    hooked.register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True)
    with Sink() as sink:
        watched = {name: _watched(sink.address, options) for name, options in WAYS.items()}
        models = {"plain": plain, "empty hook": hooked} | {name: model for name, (model, _) in watched.items()}
        laps: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name, model in models.items():
                laps[name].append(_forward(model, x))
        for _, monitor in watched.values():
            monitor.finish(timeout=1)
        return _added(laps) | _added(_whole_steps(sink.address, x))


def _whole_steps(address: str, x: Tensor) -> dict[str, list[float]]:
    """Microseconds of a forward and a step of the optimiser together, with no hooks, empty ones, and a monitor's."""
    model, monitor = _watched(address, {"every": 10**12})
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    optimiser.zero_grad()
    tables: tuple[dict[Any, Any], ...] = (
        model._forward_pre_hooks,
        model._forward_pre_hooks_with_kwargs,
        OPTIMISERS._global_optimizer_pre_hooks,
        OPTIMISERS._global_optimizer_post_hooks,
    )
    ways = {
        "plain step": ({}, {}, {}, {}),
        "empty hooks": ({-1: _nothing}, {-1: True}, {-1: _nothing}, {-1: _nothing}),
        "whole step": tuple(dict(table) for table in tables),
    }
    laps: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, contents in ways.items():
            for table, content in zip(tables, contents, strict=True):
                table.clear()
                table.update(content)
            laps[name].append(_step(model, optimiser, x))
    monitor.finish(timeout=1)
    return laps


def _nothing(thing: Any, args: Any, kwargs: Any) -> None:
    """A hook that does nothing, for torch's price of one."""


def _added(laps: dict[str, list[float]]) -> dict[str, float]:
    """The first one's lower quartile, and by how much those of the others are above it."""
    quartiles = {name: sorted(values)[len(values) // 4] for name, values in laps.items()}
    base, first = next(iter(quartiles.items()))
    return {name: value if name == base else value - first for name, value in quartiles.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = not_due()
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:12} {'' if name.startswith('plain') else '+'}{value:.2f} µs")


if __name__ == "__main__":
    main()
