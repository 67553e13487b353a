"""One training script, run twice from the same seed: once plain, once watched. Everything must come out the same."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from wire_server import WireServer

import cm_client
from cm_client.hooks import unwrapped
from cm_client.monitor import Monitor

BATCH, PROBES, STEPS = 4, 8, 5
EXPECTED = [0, 2, 4, 5]
"""Steps of the captures of such a training, every 2 steps: two batches make the probe set, the last is the end's."""

Watch = Callable[..., Monitor]
Script = Callable[[Watch], Any]


@dataclass
class Outcome:
    """What a watched training sent, and the networks to compare it with."""

    monitor: Monitor
    steps: list[int]
    layers: dict[str, int]
    first: dict[str, np.ndarray]
    last: dict[str, np.ndarray]
    before: nn.Module | None
    after: nn.Module | None


def batch(size: int = BATCH, channels: int = 3, side: int = 16, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Random pictures and labels, from torch's global generator."""
    return torch.randn(size, channels, side, side), torch.randint(0, classes, (size,))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def loop(
    model: nn.Module,
    steps: int = STEPS,
    call: Callable[[nn.Module, Tensor], Any] = lambda model, x: model(x),
    side: int = 16,
    optimiser: torch.optim.Optimizer | None = None,
) -> list[Any]:
    """The plainest training loop; the model, the optimiser and the losses are what must not change."""
    optimiser = optimiser or sgd(model)
    losses = []
    for _ in range(steps):
        x, y = batch(side=side)
        loss = nn.functional.cross_entropy(call(model, x).float(), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return [model, optimiser, losses]


def both_ways(script: Script, server: WireServer, **options: Any) -> Outcome:
    """Run ``script(watch)`` plain and watched; assert that all it returns and all random states agree bit for bit."""
    before: list[nn.Module | None] = []

    def only_copy(model: nn.Module, **_: Any) -> Monitor:
        if not before:
            before.append(_copy(unwrapped(model)))
        return Monitor()

    monitors: list[Monitor] = []

    def really(model: nn.Module, **more: Any) -> Monitor:
        known: dict[str, Any] = {"server": server.address, "every": 2, "probe_size": PROBES}
        monitors.append(cm_client.watch(model, **(known | options | more)))
        return monitors[-1]

    plain, after, _ = _run(script, only_copy)
    watched, _, alive = _run(script, really)
    for monitor in monitors:
        monitor.finish()
        assert "error" not in monitor.stats(), monitor.stats()
    del alive  # a model that nobody holds ends its run
    assert_same(plain, watched)
    return _outcome(server, monitors[0], before[0], after)


def _run(script: Script, watch: Watch) -> tuple[Any, nn.Module | None, Any]:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    result = script(watch)
    model = next((part for part in (result if isinstance(result, list) else [result]) if _is_module(part)), None)
    rng = [torch.get_rng_state(), list(random.getstate()[1]), torch.from_numpy(np.random.get_state()[1].copy())]
    return [state(result), rng], unwrapped(model) if model is not None else None, result


def _is_module(part: Any) -> bool:
    return isinstance(part, nn.Module)


def _copy(model: nn.Module) -> nn.Module | None:
    try:
        return copy.deepcopy(model)
    except Exception:
        return None


def state(value: Any) -> Any:
    """Plain nested containers of what makes up models and optimisers, gradients and train flags with them."""
    if isinstance(value, nn.Module):
        gradients = [p.grad for p in value.parameters()]
        return [dict(value.state_dict()), gradients, [m.training for m in value.modules()]]
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    return [state(part) for part in value] if isinstance(value, list | tuple) else value


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """The same bits, NaN included."""
    assert type(a) is type(b), where
    if isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, Tensor) and a.dtype != torch.float16 and a.is_floating_point():
        assert torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)), where
        assert torch.equal(a.isnan(), b.isnan()), where
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b or a != a, where


def _outcome(server: WireServer, monitor: Monitor, before: nn.Module | None, after: nn.Module | None) -> Outcome:
    captures = [captures for _, captures in sorted(server.captures(monitor.run).items())]
    if not captures:
        return Outcome(monitor, [], {}, {}, {}, before, after)
    names = [name for name, _ in captures[0][0].layers]
    first, last = (dict(zip(names, captures[i][1], strict=True)) for i in (0, -1))
    steps = [start.step for start, _ in captures]
    return Outcome(monitor, steps, dict(captures[0][0].layers), first, last, before, after)


def plain_rows(
    model: nn.Module, outcome: Outcome, pool: Callable[[Any], Tensor] | None = None
) -> dict[str, np.ndarray]:
    """What the captured layers should be: an ordinary forward in eval mode, pooled by hand."""
    twin = model.eval()
    rows: dict[str, Any] = {}
    pool = pool or (lambda output: output.mean((2, 3)))
    for layer in outcome.layers:
        twin.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: rows.__setitem__(layer, pool(output).detach().float().numpy())
        )
    recorder = outcome.monitor._recorder
    assert recorder is not None
    assert recorder._probes is not None
    like = next(p for p in twin.parameters() if p.is_floating_point())
    args, kwargs = recorder._probes.call.arguments(recorder._probes.inputs.to(like.dtype))
    with torch.no_grad():
        twin(*args, **kwargs)
    return rows


def assert_right(outcome: Outcome, pool: Callable[[Any], Tensor] | None = None, tolerance: float = 1e-5) -> None:
    """The first capture shows the network before the first step, and the last one the network after the last.

    Where the network cannot be copied the first is left unchecked.
    """
    assert outcome.after is not None
    for found, model in ((outcome.first, outcome.before), (outcome.last, outcome.after)):
        if model is None:
            continue
        expected = plain_rows(model, outcome, pool)
        assert list(found) == list(outcome.layers)
        for layer, rows in found.items():
            np.testing.assert_allclose(rows, expected[layer], rtol=tolerance, atol=tolerance, err_msg=layer)
