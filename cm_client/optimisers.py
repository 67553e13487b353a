"""Which optimiser steps are steps of the watched model, and whether its weights move without any."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.cuda import is_initialized
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from cm_client.hooks import StepHook, cuda_graph_recorded
from cm_client.processes import sharded_part
from cm_client.steps import StepCounter

_SAMPLES = 8
_spent: list[Any] = []
"""Handles of hooks that are to go: a hook must not be taken off while torch walks over the hooks."""


class OptimiserHooks:
    """Counts each step of an optimiser that holds a parameter of ``model``, and tells ``before`` one where need be.

    Every optimiser's step pays for this, so what is known is not asked again: once steps are an optimiser's and the
    forwards are seen, a step of the optimiser that stepped last costs a few comparisons.

    Args:
        model: the unwrapped module; kept by a weak reference.
        steps: what is counted.
        forwards: the hook on the model's forwards.
        before: called before a step while steps are not an optimiser's yet, or where forwards could not tell.
        failed: told of an error in counting, which the training must not see.
        given: the only optimisers to heed; none: all that hold a parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: StepCounter,
        forwards: StepHook,
        before: Callable[[], None],
        failed: Callable[[Exception], None],
        given: Iterable[Any] = (),
    ) -> None:
        self._model = weakref.ref(model)
        self._steps, self._forwards = steps, forwards
        self._before, self._failed = before, failed
        # A wrapper (Accelerate's, a scheduler's) may be what the loop holds; what steps is inside.
        self._given = {id(o) for outer in given for o in (outer, getattr(outer, "optimizer", None)) if o is not None}
        self._ours: dict[int, _Answer] = {}
        self._last: Callable[[], Optimizer | None] = lambda: None
        self._handles: list[Any] = []
        self._live = False

    def attach(self) -> None:
        """Start listening."""
        sweep()
        self._live = True
        self._handles = [
            register_optimizer_step_pre_hook(self._on_step),
            register_optimizer_step_post_hook(self._on_stepped),
        ]

    def detach(self) -> None:
        """Stop, for good. What is registered with torch goes at the next `sweep`: this may be inside a step."""
        self._live = False
        _spent.extend(self._handles)
        self._handles = []

    def _on_step(self, optimiser: Optimizer, args: Any, kwargs: Any) -> None:
        # A step inside a compiled region is traced once: a call from there would break the user's graph.
        if is_compiling():
            return
        steps = self._steps
        if steps.by_optimiser and not steps.blind and self._forwards.traced is None:
            return
        if self._live and self._is_ours(optimiser) and not cuda_graph_recorded():
            self._before()

    def _on_stepped(self, optimiser: Optimizer, args: Any, kwargs: Any) -> None:
        if is_compiling() or not self._live:
            return
        try:
            if self._last() is not optimiser:
                if not self._is_ours(optimiser):
                    return
                self._last = weakref.ref(optimiser)
            # Asked here first, since a call costs as much as the rest.
            if getattr(optimiser, "found_inf", None) is not None and _skipped(optimiser):
                return
            if is_initialized() and cuda_graph_recorded():
                return
            self._steps.stepped(id(optimiser))
        except Exception as error:
            self._failed(error)

    def _is_ours(self, optimiser: Optimizer) -> bool:
        if self._given:
            return id(optimiser) in self._given
        answer = self._ours.get(id(optimiser))
        if answer is None or answer.of() is not optimiser:
            answer = self._ours[id(optimiser)] = _Answer(optimiser)
        return answer.yes or answer.looked(optimiser, self._model())


class _Answer:
    """Whether one optimiser holds a parameter of the model; a no is looked at again, now and then."""

    def __init__(self, optimiser: Optimizer) -> None:
        self.of = weakref.ref(optimiser)
        self.yes = False
        self._calls = self._size = 0

    def looked(self, optimiser: Optimizer, model: nn.Module | None) -> bool:
        if model is None:
            return False
        self._calls += 1
        size = sum(len(group["params"]) for group in optimiser.param_groups)
        if size != self._size or self._calls & (self._calls - 1) == 0:
            self._size = size
            held = {id(p) for group in optimiser.param_groups for p in group["params"]}
            self.yes = any(id(p) in held for p in model.parameters())
        return self.yes


def sweep() -> None:
    """Take off the hooks that are spent; never called from inside a hook or by the garbage collector."""
    while _spent:
        _spent.pop().remove()


def _skipped(optimiser: Any) -> bool:
    """Whether a fused optimiser was told by GradScaler to skip this step.

    On a GPU only the device knows, and asking would make the training wait: there such a step counts.
    """
    found = optimiser.found_inf
    return isinstance(found, Tensor) and found.device.type == "cpu" and bool(found)


class WeightsMoved:
    """Answers whether the trainable weights of ``model`` differ from those of the first time it was asked.

    By their version counters, and by the values of the smallest of them (``p.data`` is changed without a trace there).
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._versions: int | None = None
        self._values: list[tuple[Tensor, Tensor]] = []

    def __call__(self) -> bool:
        """True where they moved, and where there are none that could."""
        model = self._model()
        # Sharded weights come and go within a step: they say nothing, and may have no memory when looked at.
        if model is None or any(nn.parameter.is_lazy(p) for p in model.parameters()) or sharded_part(model):
            return False
        weights = [p for p in model.parameters() if p.requires_grad]
        versions = sum(p._version for p in weights if not p.is_inference())
        if self._versions is None:
            self._versions = versions
            small = sorted(weights, key=Tensor.numel)[:_SAMPLES]
            self._values = [(p, p.detach().clone()) for p in small]
            return not weights
        return versions != self._versions or any(_differs(now, kept) for now, kept in self._values)


def _differs(now: Tensor, kept: Tensor) -> bool:
    return now.device == kept.device and now.shape == kept.shape and not torch.equal(now, kept)
