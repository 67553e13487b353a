"""How many steps are done, told from what can be seen of a training. Pure: the weights are asked through a callable."""

from __future__ import annotations

from collections.abc import Callable, Hashable

BLIND_AFTER = 10
"""Optimiser steps without a forward in sight, after which the forwards are taken to be out of sight for good."""


class StepCounter:
    """Steps are optimiser steps, as soon as one is seen; several optimisers that step after one forward are one step.

    Before that the count stays at 0 while the weights stay as they are (gradient accumulation, forwards made to warm
    up). Weights that move although no optimiser was seen belong to a loop that updates them by hand: there each
    training forward is a step. A number told by the user goes before all of this.

    Args:
        moved: whether the weights have changed since it was first asked; asked only while nothing is decided.
        optimiser_known: whether steps are an optimiser's from the start.
        start: steps done before the first forward.

    `forward` and `stepped` are what every training step pays for: no call, no property, no set is made there that need
    not be.

    Attributes:
        forwards: training forwards begun.
        by_optimiser: whether steps are an optimiser's.
        blind: whether optimisers step and no forward is seen: they are compiled into something, or the model's parts
            are called without the model.
    """

    def __init__(self, moved: Callable[[], bool], optimiser_known: bool = False, start: int = 0) -> None:
        self.forwards = 0
        self._moved = moved
        self._start = start
        self._steps = 0
        self.by_optimiser = optimiser_known
        self._by_forwards = False
        self._told: int | None = None
        self._fresh = True
        self._last: set[Hashable] = set()
        self._unseen = 0
        self.blind = False

    @property
    def step(self) -> int:
        """Steps done."""
        if self._told is not None:
            return self._told
        return self._start + (self.forwards if self._by_forwards else self._steps)

    def now(self) -> int:
        """`step`, after a look at the weights where nothing is decided yet: for the training's own thread."""
        self._decide()
        return self.step

    def forward(self) -> int:
        """A training forward begins; the steps done before it."""
        if not self.by_optimiser:
            self._decide()
        told, done = self._told, self.forwards if self._by_forwards else self._steps
        self.forwards += 1
        self._fresh = True
        if self._unseen:
            self._unseen, self.blind = 0, False
        return self._start + done if told is None else told

    def stepping(self) -> None:
        """An optimiser that holds weights of the model is about to step; it may run forwards itself (LBFGS)."""
        if not self.by_optimiser:
            # The forward of this very step has begun, but is not yet done.
            self._steps = max(0, self.forwards - 1) if self._by_forwards else 0
            self.by_optimiser, self._by_forwards = True, False

    def stepped(self, optimiser: Hashable) -> None:
        """That optimiser has stepped."""
        if self._fresh:
            self._steps += 1
            self._fresh = False
            self._last = {optimiser}
        elif optimiser not in self._last:
            self._last.add(optimiser)
        else:
            self._unseen += 1
            if self._unseen >= BLIND_AFTER:
                self._steps += 1 if self.blind else BLIND_AFTER
                self.blind = True
                self._last = {optimiser}

    def tell(self, step: int) -> None:
        """From now on steps are what the user says."""
        self._told = step

    def _decide(self) -> None:
        if not (self.by_optimiser or self._by_forwards or self._told is not None):
            self._by_forwards = self._moved()
