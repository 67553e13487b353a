"""Two processes that train together over gloo; started by test_distributed.py, one thing after the other in each.

Usage: ``python ranks.py PORT SERVER OUT`` with RANK and WORLD_SIZE in the environment. Each scenario writes what its
rank saw to ``OUT/<scenario>-<rank>.pt``; every collective that is entered is counted by name.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from models import Small
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import cm_client
from cm_client.capture import capture

STEPS = 5
WINDOW = 40
"""Steps in which the stream's first window fills: at most one image in 32 comes from one forward."""
STREAM = {"sample": "stream", "probe_size": 32, "layers": ["stage1", "stage2"], "every": 20}


class Collectives(TorchDispatchMode):
    """Counts what goes to the process group."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith(("c10d", "_c10d")):
            self.count[name] = self.count.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def train(
    model: nn.Module, optimiser: torch.optim.Optimizer, slow: float = 0.0, steps: int = STEPS
) -> list[torch.Tensor]:
    """Each rank on data of its own; rank 1 may be late at every step."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    losses = []
    for _ in range(steps):
        time.sleep(slow if dist.get_rank() else 0.0)
        x = torch.randn(4, 3, 16, 16, generator=generator)
        y = torch.randint(0, 4, (4,), generator=generator)
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return losses


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small()


def ddp(watch: Callable[..., Any]) -> list[Any]:
    model = DistributedDataParallel(small())
    watch(model)
    return [model, train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))]


def ddp_inner(watch: Callable[..., Any]) -> list[Any]:
    inner = small()
    watch(inner)
    model = DistributedDataParallel(inner, static_graph=True)
    return [model, train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), slow=0.02)]


def ddp_compiled(watch: Callable[..., Any]) -> list[Any]:
    inner = small()
    model = torch.compile(DistributedDataParallel(inner), backend="aot_eager")
    watch(model)
    return [inner, train(model, torch.optim.SGD(model.parameters(), 0.05))]


def zero_redundancy(watch: Callable[..., Any]) -> list[Any]:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(small())
    watch(model)
    optimiser = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.05, momentum=0.9)
    return [model, train(model, optimiser)]


def sharded(watch: Callable[..., Any]) -> list[Any]:
    model = small()
    for part in (model.stage1, model.stage2, model):
        fully_shard(part)
    watch(model)
    losses = train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))
    return [{name: p.to_local() for name, p in model.named_parameters()}, losses]


def sharded_later(watch: Callable[..., Any]) -> list[Any]:
    model = small()
    watch(model)
    fully_shard(model)
    losses = train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))
    return [{name: p.to_local() for name, p in model.named_parameters()}, losses]


def streamed_ddp(watch: Callable[..., Any]) -> list[Any]:
    model = DistributedDataParallel(small())
    watch(model, **STREAM)
    return [model, train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), steps=WINDOW)]


def streamed_sharded(watch: Callable[..., Any]) -> list[Any]:
    model = small()
    for part in (model.stage1, model.stage2, model):
        fully_shard(part)
    watch(model, **STREAM)
    losses = train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), steps=WINDOW)
    return [{name: p.to_local() for name, p in model.named_parameters()}, losses]


SCENARIOS = [ddp, ddp_inner, ddp_compiled, zero_redundancy, sharded, sharded_later, streamed_ddp, streamed_sharded]


def run(scenario: Callable[..., list[Any]], server: str | None) -> dict[str, Any]:
    """One scenario, watched where a server is given."""
    torch._dynamo.reset()
    monitors: list[Any] = []

    def watch(model: nn.Module, **options: Any) -> None:
        if server is not None:
            run = f"{scenario.__name__}-{os.environ['RANK']}"
            monitors.append(cm_client.watch(model, server=server, run=run, **{"every": 2, "probe_size": 8} | options))

    with Collectives() as collectives:
        result = scenario(watch)
        for monitor in monitors:
            monitor.finish()
    model = result[0]
    state = model.state_dict() if isinstance(model, nn.Module) else model
    stats = monitors[0].stats() if monitors else {}
    return {
        "state": {name: value.clone() for name, value in state.items()},
        "losses": result[1],
        "collectives": collectives.count,
        "captures": stats.get("captures", 0),
        "error": stats.get("error", ""),
    }


def synchronised_norms() -> dict[str, int]:
    """A probe pass of rank 0 alone through SyncBatchNorm, which trains on GPUs only: what it says to the group."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small())
    with Collectives() as collectives:
        if dist.get_rank() == 0:
            capture(model, ["stage1", "stage2"], torch.randn(4, 3, 16, 16))
    return collectives.count


def main() -> None:
    """Every scenario, plain and watched."""
    port, server, out = sys.argv[1:4]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for scenario in SCENARIOS:
        found = {"plain": run(scenario, None), "watched": run(scenario, server)}
        torch.save(found, Path(out) / f"{scenario.__name__}-{rank}.pt")
    torch.save(synchronised_norms(), Path(out) / f"synchronised_norms-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
