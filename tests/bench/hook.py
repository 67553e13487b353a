"""What a step pays for being watched where no capture is due.

    python tests/bench/hook.py [--json]

A forward of a model that does no work, with and without a watching monitor, in turns; the difference of the medians is
what a step pays. Goal: under 5 µs. ``empty hook`` is a pre-hook that does nothing: torch's own price for calling one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

import cm_client

ROUNDS, CALLS = 60, 2000


class Nothing(nn.Module):
    """Work for the probe pass and for what comes before the measurement, none for a training forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)
        self.idle = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.idle and self.training else self.layer(x)


def not_due() -> dict[str, float]:
    """Microseconds a step: without a monitor, and on top of that with an empty hook and with each kind of watching."""
    x = torch.randn(32, 3, 16, 16)
    ways: dict[str, dict[str, Any] | None] = {
        "plain": None,
        "empty hook": None,
        "budget": {"budget": 1e-9},
        "every": {"every": 10**12},
        "stream": {"sample": "stream", "every": 10**12},
        "function": {"every": lambda step: step == 0},
    }
    models = {name: Nothing() for name in ways}
    models["empty hook"].register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True)
    monitors = []
    for name, options in ways.items():
        if options is not None:
            fixed = {"server": "tcp://127.0.0.1:9", "layers": ["layer"], "probe_size": 32}
            monitors.append(cm_client.watch(models[name], **fixed, **options))
        optimiser = torch.optim.SGD(models[name].parameters(), lr=0.1)
        for _ in range(60):
            models[name](torch.randn_like(x)).sum().backward()
            optimiser.step()
        models[name].idle = True
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                model(x)
            seconds[name].append((time.perf_counter() - began) / CALLS * 1e6)
    for monitor in monitors:
        monitor.finish(timeout=0)
    plain = statistics.median(seconds["plain"])
    return {"plain": plain} | {n: statistics.median(s) - plain for n, s in seconds.items() if n != "plain"}


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
