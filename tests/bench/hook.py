"""What a step pays for being watched where no capture is due: by way of scheduling, beside torch's own price of a hook.

    python tests/bench/hook.py [--json]

A step is a forward of a model that does no work (and an optimiser's step that finds no gradients). Each way of watching
is compared with the same forward unwatched, in turns; given are medians of the differences. The hooks on optimisers
are torch's global ones, which every optimiser of the process pays for: ``whole step`` has them, before and after
`finish`.
``empty hook`` is a forward pre-hook that does nothing. Goal: under 5 µs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from client_sink import Sink
from torch import Tensor, nn

import cm_client

ROUNDS, CALLS = 100, 1000
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
    began = time.perf_counter()
    for _ in range(CALLS):
        model(x)
    return (time.perf_counter() - began) / CALLS * 1e6


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor) -> float:
    """Microseconds a step of both."""
    began = time.perf_counter()
    for _ in range(CALLS):
        model(x)
        optimiser.step()
    return (time.perf_counter() - began) / CALLS * 1e6


def not_due() -> dict[str, float]:
    """Microseconds: of a plain forward, what each way adds to it, and what one adds to forward and optimiser's step."""
    x = torch.randn(1, 3, 16, 16)
    plain, hooked = Nothing(), Nothing()
    plain.idle = hooked.idle = True
    hooked.register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True)
    with Sink() as sink:
        watched = {name: _watched(sink.address, options) for name, options in WAYS.items()}
        models: dict[str, nn.Module] = {"empty hook": hooked} | {name: model for name, (model, _) in watched.items()}
        added: dict[str, list[float]] = {name: [] for name in models}
        base = []
        for _ in range(ROUNDS):
            base.append(_forward(plain, x))
            for name, model in models.items():
                added[name].append(_forward(model, x) - base[-1])
        for _, monitor in watched.values():
            monitor.finish(timeout=1)
        found = {"plain": statistics.median(base)} | {n: statistics.median(s) for n, s in added.items()}
        return found | {"whole step": _whole_step(sink.address, x)}


def _whole_step(address: str, x: Tensor) -> float:
    """Microseconds that a monitor adds to a forward and a step of the optimiser together."""
    added = []
    for _ in range(20):
        model, monitor = _watched(address, {"every": 10**12})
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        optimiser.zero_grad()
        watched = [_step(model, optimiser, x) for _ in range(5)]
        monitor.finish(timeout=1)
        added.append(statistics.median(watched) - statistics.median(_step(model, optimiser, x) for _ in range(5)))
    return statistics.median(added)


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
        print(f"{name:12} {'' if name == 'plain' else '+'}{value:.2f} µs")


if __name__ == "__main__":
    main()
