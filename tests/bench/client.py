"""What the client costs a training step, beside its peers; paired and interleaved in one run.

    python tests/bench/client.py --json

1. *Step.* CIFAR ResNet-18, batch 64, synthetic data. Every variant trains a model of its own; in each round, all
   variants run in random order, a step in which nothing is due and one in which their work is. Two plain variants are
   the control: each other's ratio is the noise. From these, per round: the ratio at equal frequency (every 10 steps),
   and that of the default budget, where a capture of c seconds comes every c / share seconds. Medians, with a
   bootstrapped 95 % interval. A capture in probe mode passes as many images as the probe set has through the model;
   stream mode, TensorBoard and wandb look at the batches that are there. Not the same work: the last column says which.
2. *Budget.* The default schedule in one long run of a small network: the share that the client measured.
3. *Not due.* A root forward with and without the hook, in blocks.
4. *Hand-over.* `add_capture` of 2 MB on the training thread, with a server that is up, gone, or stopped (SIGSTOP).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from client_sink import Sink, free_address
from torch import Tensor, nn

import cm_client
from cm_client.examples.resnet8 import ResNet8
from cm_client.items import CaptureItem

EVERY = 10
SHARE = 0.01
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def resnet18() -> nn.Module:
    """Torchvision's, with the stem of the CIFAR variant (He et al. 2016, section 4.2)."""
    from torchvision.models import resnet18 as build

    model = build(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


class Plain:
    """A training run; the variants add to it. ``due`` says whether this step is the one in ten."""

    what = "nothing"
    due_every = 1
    """Rounds from one in which it is due to the next."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.due = False
        self.model = resnet18() if options.model == "resnet18" else ResNet8(10)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.images, self.labels = torch.randn(options.batch, 3, 32, 32), torch.randint(0, 10, (options.batch,))
        self.loss = 0.0

    def step(self, due: bool) -> float:
        """One training step; its seconds."""
        self.due = due
        started = time.perf_counter()
        loss = nn.functional.cross_entropy(self.model(self.images), self.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.loss = float(loss.detach())
        self.after()
        return time.perf_counter() - started

    def after(self) -> None:
        """What a user's loop does at the end of each step."""

    def close(self) -> None:
        """Let go of everything."""


class Ours(Plain):
    """The monitor, probe mode, capturing when told to."""

    due_every = 3  # a pass of the whole probe set takes as long as several steps

    def __init__(self, options: argparse.Namespace, server: str) -> None:
        super().__init__(options)
        pictures = np.random.default_rng(0).integers(0, 256, (options.probes, 32, 32, 3)).astype(np.uint8)
        probe = cm_client.ProbeSet(pictures)
        self.what = f"{options.probes} probe images through the model"
        # The first capture, of step 0, belongs to the start of a run and is in no round.
        self.monitor = cm_client.watch(self.model, server=server, probe=probe, every=lambda step: self.due)

    def after(self) -> None:
        self.monitor.log(loss=self.loss)

    def close(self) -> None:
        self.monitor.finish(timeout=1)


class OursStream(Plain):
    """The monitor, stream mode: windows one after the other, so that every step is sampled and there is no idle one."""

    def __init__(self, options: argparse.Namespace, server: str) -> None:
        super().__init__(options)
        # A window is spread over 32 forwards; in ten steps as many rows come together as one batch has.
        rows = -(-options.batch // EVERY)
        self.what = f"{rows} rows of every batch (in ten steps as many as the peers look at in one)"
        self.monitor = cm_client.watch(self.model, server=server, sample="stream", every=1, probe_size=32 * rows)

    def step(self, due: bool) -> float:
        self.images.normal_()  # new pictures: those that it has seen already are left out
        return super().step(due)

    def after(self) -> None:
        self.monitor.log(loss=self.loss)

    def close(self) -> None:
        self.monitor.finish(timeout=1)


class Histograms(Plain):
    """TensorBoard's add_histogram of the same layers' activations on the training batch."""

    what = f"histograms of the batch's activations in {len(LAYERS)} layers"

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        super().__init__(options)
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.kept, self.steps = SummaryWriter(folder), dict[str, Tensor](), 0
        for layer in LAYERS:
            self.model.get_submodule(layer).register_forward_hook(lambda m, a, out, n=layer: self._keep(n, out))

    def _keep(self, layer: str, output: Tensor) -> None:
        if self.due:
            self.kept[layer] = output.detach()

    def after(self) -> None:
        self.steps += 1
        self.writer.add_scalar("loss", self.loss, self.steps)
        for layer, output in self.kept.items():
            self.writer.add_histogram(layer, output, self.steps)
        self.kept.clear()

    def close(self) -> None:
        self.writer.close()


class Wandb(Plain):
    """``wandb.watch``, offline, at its defaults: histograms of the gradients, here of every second step."""

    what = "histograms of all gradients (wandb.watch at its defaults)"

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        super().__init__(options)
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": folder}
        import wandb

        self.run = wandb.init(project="bench", dir=folder, settings=wandb.Settings(console="off", x_disable_stats=True))
        self.run.watch(self.model, log_freq=2)

    def after(self) -> None:
        self.run.log({"loss": self.loss})

    def close(self) -> None:
        self.run.finish()


def compare_steps(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Part 1."""
    with Sink() as sink:
        variants: dict[str, Plain] = {
            "control": Plain(options),
            "control again": Plain(options),
            "ours, probe": Ours(options, sink.address),
            "ours, stream": OursStream(options, sink.address),
            "TensorBoard": Histograms(options, f"{folder}/tensorboard"),
            "wandb.watch": Wandb(options, folder),
        }
        for variant in variants.values():
            variant.step(False), variant.step(True)
        rounds = _rounds(variants, options.seconds)
        for variant in variants.values():
            variant.close()
    return _table(variants, rounds)


Round = dict[str, tuple[list[float], list[float]]]
"""By variant: seconds of steps with nothing due, and of steps that are due."""


def _rounds(variants: dict[str, Plain], seconds: float) -> list[Round]:
    """As many rounds as fit the time, three at least."""
    order, rounds, end = np.random.default_rng(0), list[Round](), time.perf_counter() + seconds
    longest = 0.0
    while time.perf_counter() + longest < end or len(rounds) < 3:
        started, found = time.perf_counter(), Round()
        for name in order.permutation(list(variants)):
            variant = variants[name]
            if len(rounds) % variant.due_every:
                found[str(name)] = ([variant.step(False), variant.step(False)], [])
            else:
                found[str(name)] = ([variant.step(False)], [variant.step(True)])
        rounds.append(found)
        longest = max(longest, time.perf_counter() - started)
    return rounds


def _table(variants: dict[str, Plain], rounds: list[Round]) -> dict[str, Any]:
    rows, bases = {}, [statistics.mean(_steps(r, "control") + _steps(r, "control again")) for r in rounds]
    for name, variant in variants.items():
        # Against the other control where it is one itself: their ratio is what pure noise looks like.
        other = {"control": "control again", "control again": "control"}.get(name)
        base = [statistics.mean(_steps(r, other)) if other else b for r, b in zip(rounds, bases, strict=True)]
        idle = [statistics.mean(r[name][0]) / b for r, b in zip(rounds, base, strict=True)]
        due = [r[name][1][0] / b for r, b in zip(rounds, base, strict=True) if r[name][1]]
        tenth = [((EVERY - 1) * i + statistics.median(due)) / EVERY for i in idle]
        rows[name] = {"what": variant.what, "idle": _summary(idle), "due": _summary(due), "every_10": _summary(tenth)}
    # A capture of c seconds is followed by c / share seconds without one.
    idle = [statistics.mean(r["ours, probe"][0]) / b for r, b in zip(rounds, bases, strict=True)]
    what = f"idle steps, and captures that take {SHARE:.0%} of the time"
    budget = {"what": what, "ratio": _summary([i * (1 + SHARE) for i in idle])}
    return {"rounds": len(rounds), "step_seconds": statistics.median(bases), "variants": rows, "default_budget": budget}


def _steps(found: Round, name: str) -> list[float]:
    return found[name][0] + found[name][1]


def _summary(values: list[float]) -> dict[str, float]:
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return {"median": statistics.median(values), "low": float(low), "high": float(high)}


def measure_budget(seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Part 2: after the capture of step 0, which nothing can space."""
    with Sink() as sink:
        small = Plain(argparse.Namespace(**vars(options) | {"model": "resnet8"}))
        monitor = cm_client.watch(small.model, server=sink.address)
        while monitor.stats().get("captures", 0) < 1:
            small.step(False)
        first, started = monitor.stats(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            small.step(False)
        last = monitor.stats()
        monitor.finish(timeout=1)
    spent = last["overhead_seconds"] - first["overhead_seconds"]
    return {
        "seconds": seconds,
        "steps": last["step"] - first["step"],
        "captures": last["captures"] - first["captures"],
        "share": spent / (last["seconds"] - first["seconds"]),
    }


class _Root(nn.Module):
    """As little as can be watched."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


def measure_not_due(blocks: int = 200, calls: int = 500) -> dict[str, Any]:
    """Part 3: microseconds that the hook adds to a forward in which nothing is due, paired by block."""
    watched, plain = _Root(), _Root()
    images, pictures = torch.zeros(1, 3, 8, 8), np.zeros((2, 8, 8, 3), np.uint8)
    with Sink() as sink:
        monitor = cm_client.watch(
            watched, server=sink.address, layers=["part"], every=10**9, probe=cm_client.ProbeSet(pictures)
        )
        watched(images)  # step 0 is captured; nothing is due after it
        watched.weight.grad = torch.ones(1)
        torch.optim.SGD(watched.parameters(), lr=0.1).step()  # now the monitor knows what a step is
        added = [_block(watched, images, calls) - _block(plain, images, calls) for _ in range(blocks)]
        assert monitor.watching, monitor.stats()
        monitor.finish(timeout=1)
    return _summary([1e6 * seconds / calls for seconds in added])


def _block(module: nn.Module, images: Tensor, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        module(images)
    return time.perf_counter() - started


def measure_hand_over(calls: int = 500) -> dict[str, Any]:
    """Part 4: microseconds by state of the server."""
    found = {}
    for state in ("up", "down", "stopped"):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _server(state) as address:
            os.environ["XDG_STATE_HOME"] = folder  # each state its own spool
            model = _Root()
            monitor = cm_client.watch(model, server=address, layers=["part"])
            transport: Any = monitor._transport
            layers = {"layer": np.zeros((1024, 512), np.float32)}
            times = []
            for number in range(calls):
                item = CaptureItem(number, number, 0.0, "ab" * 32, layers)
                started = time.perf_counter()
                transport.add_capture(item)
                times.append(1e6 * (time.perf_counter() - started))
                time.sleep(0.002)  # a training step, in which the sender works
            monitor.finish(timeout=0)
        p50, p99, p999 = np.quantile(times, (0.5, 0.99, 0.999))
        found[state] = {"p50": float(p50), "p99": float(p99), "p99.9": float(p999), "max": max(times)}
    return found


@contextmanager
def _server(state: str) -> Iterator[str]:
    if state == "down":
        yield free_address()
        return
    with Sink() as sink:
        if state == "stopped":
            sink.stop()
        yield sink.address


def report(result: dict[str, Any]) -> None:
    """The figures as text."""
    part = result["step"]
    print(f"\nstep {part['step_seconds'] * 1e3:.0f} ms, {part['rounds']} rounds; ratios to no monitor, median [95 %]")
    for name, row in part["variants"].items():
        cells = "  ".join(f"{k} {_cell(row[k])}" for k in ("idle", "due", "every_10"))
        print(f"  {name:<14} {cells}  {row['what']}")
    print(f"  default budget {_cell(part['default_budget']['ratio'])}  {part['default_budget']['what']}")
    budget, idle = result["budget"], result["not_due_us"]
    print(f"budget, ResNet-8 for {budget['seconds']:.0f} s: {budget['captures']} captures, share {budget['share']:.2%}")
    print(f"not due: {idle['median']:.2f} µs a step [{idle['low']:.2f}, {idle['high']:.2f}]")
    for state, row in result["hand_over_us"].items():
        print(
            f"hand-over, server {state:<8} p50 {row['p50']:6.1f} µs  p99 {row['p99']:6.1f} µs  max {row['max']:.0f} µs"
        )


def _cell(row: dict[str, float]) -> str:
    return f"{row['median']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--seconds", type=float, default=190, help="for part 1 (default 190)")
    parser.add_argument("--budget-seconds", type=float, default=20, help="for part 2 (default 20)")
    parser.add_argument("--model", default="resnet18", choices=("resnet18", "resnet8"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--probes", type=int, default=1024, help="images in the probe set (default 1024)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts: dict[str, Callable[[], Any]] = {
        "not_due_us": measure_not_due,
        "hand_over_us": measure_hand_over,
        "budget": lambda: measure_budget(options.budget_seconds, options),
    }
    parts["step"] = lambda: compare_steps(options, os.environ["XDG_STATE_HOME"])
    result = {}
    for name, part in parts.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            # Spools and probe sets; anew for each part, since a spool that is full is something else.
            os.environ |= {f"XDG_{kind}_HOME": folder for kind in ("DATA", "CACHE", "STATE")}
            result[name] = part()
    print(json.dumps(result, indent=2)) if options.json else report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
