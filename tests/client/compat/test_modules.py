"""What networks are made of: whatever it is, watching it changes no bit of its training."""

from __future__ import annotations

import copy
import random
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from compat_harness import EXPECTED, assert_right, batch, both_ways, loop, sgd
from models import Small
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth
from wire_server import WireServer

from cm_client.capture import capture


def changed(change: Callable[[Small], Any]) -> Callable[[], nn.Module]:
    """`Small` after ``change``."""

    def build() -> nn.Module:
        model = Small()
        change(model)
        return model

    return build


def frozen(model: Small) -> None:
    model.stage1.requires_grad_(False)
    model.stage1.eval()


def inplace(model: Small) -> None:
    model.stage1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
    model.stage2 = nn.Sequential(nn.ReLU(inplace=True), *model.stage2)


def no_running_statistics(model: Small) -> None:
    model.stage1[1] = nn.BatchNorm2d(8, track_running_stats=False)


def group_norms(model: Small) -> None:
    model.stage1[1], model.stage2[1] = nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(4, 16)


def old(normalise: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    """The hook-based normalisations: deprecated, and in use."""

    def build() -> nn.Module:
        model = Small()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            normalise(model.stage1[0])
        return model

    return build


class Shared(Small):
    """One block three times in one forward, one activation for all, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.tied = nn.Conv2d(8, 8, 3, padding=1)
        self.tied.weight = self.block.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(x)
        for _ in range(2):
            x = self.act(self.block(x))
        return self.head(self.stage2(self.act(self.tied(x))).mean((2, 3)))


class Checkpointed(Small):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for stage in (self.stage1, self.stage2):
            x = checkpoint(stage, x, use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


class Wilful(Small):
    """Its ``train`` does more than set flags, its ``__call__`` is its own, and it remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.kept, self.history, self.switches = 0, None, [], 0

    def train(self, mode: bool = True) -> Wilful:
        self.switches = getattr(self, "switches", 0) + 1
        super().train(mode)
        self.stage1[1].eval()
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().__call__(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        self.history.append(float(x.detach().mean()))
        previous, self.kept = self.kept, self.stage1(x)
        drift = 0.0 if previous is None else float(previous.detach().mean())
        return self.head(self.stage2(self.kept).mean((2, 3))) + 0.01 * drift + 0.001 * self.calls * len(self.history)


class Gambler(Small):
    """Draws from every random source there is, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        return super().forward(x + 0.01 * noise)


class MemoryBank(Small):
    """A queue of features in buffers (MoCo) and an average kept by hand, in place, in train and eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(6, 16))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))
        self.average = torch.zeros(16)

    def forward(self, x: Tensor) -> Tensor:
        feature = self.stage2(self.stage1(x)).mean((2, 3))
        with torch.no_grad():
            self.queue[int(self.at) % 6] = feature[0]
            self.at += 1
            self.average.mul_(0.9).add_(feature.mean(0))
        return self.head(feature + 0.01 * self.queue.mean(0) + 0.01 * self.average)


def lazy() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(8, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Dropout(0.2), nn.LazyConv2d(16, 3, 2, 1),
        nn.ReLU(), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip


def stochastic_depth(model: Small) -> None:
    model.stage2.append(StochasticDepth(0.5, "row"))


def recurrent() -> nn.Module:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
            self.rnn, self.head = nn.GRU(8, 12, 2, batch_first=True, dropout=0.3), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.norm(self.stem(x)).flatten(2).transpose(1, 2))[0][:, -1])

    return Rows()


KINDS: dict[str, Callable[[], nn.Module]] = {
    "plain": Small,
    "frozen part": changed(frozen),
    "in-place ReLU after a watched layer": changed(inplace),
    "batch norm without momentum": changed(lambda m: setattr(m.stage1[1], "momentum", None)),
    "batch norm without running statistics": changed(no_running_statistics),
    "group and instance norm": changed(group_norms),
    "spectral norm": changed(lambda m: parametrizations.spectral_norm(m.stage1[0])),
    "weight norm": changed(lambda m: parametrizations.weight_norm(m.stage1[0])),
    "orthogonal": changed(lambda m: parametrizations.orthogonal(m.head)),
    "spectral norm, old": old(nn.utils.spectral_norm),
    "weight norm, old": old(nn.utils.weight_norm),
    "pruned": changed(lambda m: prune.l1_unstructured(m.stage1[0], "weight", 0.5)),
    "stochastic depth": changed(stochastic_depth),
    "shared modules": Shared,
    "checkpoints": partial(Checkpointed, False),
    "checkpoints, reentrant": partial(Checkpointed, True),
    "own train and call": Wilful,
    "memory bank": MemoryBank,
    "recurrent": recurrent,
    "data parallel": lambda: nn.DataParallel(Small()),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_bit_identical(kind: str, server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = KINDS[kind]()
        watch(model)
        result = loop(model)
        if isinstance(model, Wilful):
            result += [model.calls, model.history, model.switches, model.kept.detach()]
        if isinstance(model, MemoryBank):
            result += [model.average]
        return result

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    if kind not in ("own train and call", "recurrent", "memory bank"):
        assert_right(outcome)


def test_random_numbers_drawn_in_the_forward_are_given_back(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model = Gambler()
        watch(model)
        return loop(model)

    assert both_ways(script, server).steps == EXPECTED


@pytest.mark.parametrize("own_probes", [False, True])
def test_lazy_modules_are_made_by_the_training(server: WireServer, own_probes: bool) -> None:
    import cm_client

    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)

    def script(watch: Any) -> Any:
        model = lazy()
        watch(model, probe=cm_client.ProbeSet(images) if own_probes else None)
        x, _ = batch()
        optimiser = None if own_probes else torch.optim.SGD(model.parameters(), 0.05)
        if own_probes:  # built before the optimiser, as the manual says
            model(x)
        return loop(model, optimiser=optimiser)

    outcome = both_ways(script, server)
    assert outcome.steps == ([0, 2, 4, 5] if own_probes else [2, 4, 5])
    assert outcome.layers


def test_user_hooks_see_and_change_only_the_training(server: WireServer) -> None:
    """A hook that collects for the loss, one that counts, one that changes the output; and a global one."""

    def script(watch: Any) -> Any:
        model, features, counts = Small(), [], {"n": 0}
        totals = torch.zeros(8)

        def add(output: Tensor) -> None:
            nonlocal totals
            totals = totals + output.detach().mean((0, 2, 3))

        def count(module: nn.Module, args: Any, output: Tensor) -> None:
            counts["n"] += 1
            add(output)

        model.stage1.register_forward_hook(lambda module, args, output: features.append(output))
        model.stage1.register_forward_hook(count)
        model.stage2.register_forward_hook(lambda module, args, output: output * 1.5)
        model.head.register_full_backward_hook(lambda module, grads, outs: None)
        seen: list[int] = []
        everywhere = nn.modules.module.register_module_forward_hook(lambda m, a, o: seen.append(len(o)))
        watch(model)
        optimiser, losses = sgd(model), []
        for _ in range(5):
            x, y = batch()
            loss = nn.functional.cross_entropy(model(x), y) + sum(f.square().mean() for f in features)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            features.clear()
            losses.append(loss.detach())
        everywhere.remove()
        return [model, optimiser, losses, counts["n"], seen, totals]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


class Collecting:
    """A user's object with a hook among its methods; another thread fills its queue meanwhile."""

    def __init__(self) -> None:
        self.features: list[Tensor] = []
        self.calls, self.queue = 0, deque([0])

    def hook(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.calls += 1
        self._keep(output)

    def _keep(self, output: Tensor) -> None:
        self.features.append(output)
        self.last = output


class Fed(Small):
    """While it runs somebody else appends to the queue."""

    def __init__(self, collecting: Collecting) -> None:
        super().__init__()
        self.feed = lambda: collecting.queue.append(len(collecting.queue))

    def forward(self, x: Tensor) -> Tensor:
        self.feed()
        return super().forward(x)


def test_of_an_objects_attributes_only_those_its_hook_names_are_put_back() -> None:
    collecting = Collecting()
    model = Fed(collecting)
    model.stage1.register_forward_hook(collecting.hook)
    model(batch()[0])
    before = collecting.calls, list(collecting.features), collecting.last
    capture(model, ["stage2"], torch.randn(6, 3, 16, 16), chunk=2)
    assert (collecting.calls, collecting.features) == before[:2]
    assert collecting.last is before[2]
    assert list(collecting.queue) == [0, 1, 2, 3, 4]


def test_validation_in_between(server: WireServer) -> None:
    """Under no_grad, under inference_mode, in eval mode with gradients on, and with an averaged copy."""

    def script(watch: Any) -> Any:
        model = Small()
        watch(model)
        average = torch.optim.swa_utils.AveragedModel(model)
        twin, optimiser, results = copy.deepcopy(model), sgd(model), []
        for _ in range(5):
            results += loop(model, steps=1, optimiser=optimiser)[2]
            average.update_parameters(model)
            model.eval()
            x, _ = batch()
            with torch.no_grad():
                results.append(model(x))
            with torch.inference_mode():
                results.append(model(x).clone())
            results.append(model(x).detach())
            model.train()
            results += [average(x).detach(), twin(x).detach()]
        return [model, optimiser, average, [r.clone() for r in results]]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)


def test_a_fully_frozen_model_counts_its_forwards(server: WireServer) -> None:
    def script(watch: Any) -> Any:
        model, head = Small().requires_grad_(False), nn.Linear(4, 4)
        watch(model)
        return [model, *loop(head, call=lambda head, x: head(model(x)))]

    outcome = both_ways(script, server)
    assert outcome.steps == EXPECTED
    assert_right(outcome)
