"""From training forwards to captures: counts steps, gathers the probe set, and captures when the schedule says so."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from cm_client.capture import capture, weights_copy
from cm_client.collect import FEWEST, Collector
from cm_client.discovery import choose, observe
from cm_client.errors import ClientError
from cm_client.outbox import CaptureItem, ProbeImages
from cm_client.probe import FrozenProbes, ProbeSet, freeze
from cm_client.protocol import limits
from cm_client.schedule import Schedule

LOG = logging.getLogger("cm_client")


@dataclass(frozen=True)
class Plan:
    """What to record, as the user asked for it.

    Attributes:
        layers: module paths, or None to find some.
        probe: a probe set, or None to collect one.
        how: pooling, ``mean`` or ``max``.
        channels_last: layout of 4-D outputs, None to look at the shapes.
        schedule: when to capture.
        collector: gathers the probe set where ``probe`` is None.
        start_step: steps done before the first forward.
    """

    layers: Sequence[str] | None
    probe: ProbeSet | None
    how: str
    channels_last: bool | None
    schedule: Schedule
    collector: Collector
    start_step: int = 0


class Recorder:
    """Told of each training forward of ``model`` (the unwrapped module); hands on a probe set once and captures.

    Args:
        model: kept by a weak reference only.
        plan: what to record.
        probes_ready: takes the probe set's images.
        captured: takes a capture.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        probes_ready: Callable[[ProbeImages], None],
        captured: Callable[[CaptureItem], None],
    ) -> None:
        self.layers = list(plan.layers) if plan.layers is not None else None
        self.captures = 0
        self.capture_seconds = 0.0
        self._model = weakref.ref(model)
        self._plan = plan
        self._channels_last = plan.channels_last
        self._probes_ready, self._captured = probes_ready, captured
        self._probes: FrozenProbes | None = None
        self._weights: dict[str, Tensor] | None = None
        self._begun: tuple[int, float] | None = None
        self._last_step = -1
        self._forwards = 0
        self._told_step: int | None = None
        self._warned_nan = False

    @property
    def step(self) -> int:
        """Steps done: those before, and training forwards begun; or what `tell_step` said last."""
        return self._plan.start_step + self._forwards if self._told_step is None else self._told_step

    @property
    def probes(self) -> int:
        """Images in the probe set, 0 before there is one."""
        return 0 if self._probes is None else len(self._probes.inputs)

    def tell_step(self, step: int) -> None:
        """From now on steps are what the user says."""
        self._told_step = step

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A training forward is about to run.

        Raises:
            ClientError: the model cannot be watched so; the text says what to do.
        """
        step = self.step
        self._forwards += 1
        if self._probes is None:
            self._gather(step, args, kwargs)
        if self._probes is not None and self._plan.schedule.due(step, time.perf_counter()):
            self._take(step, time.time())

    def close(self, status: str) -> None:
        """Training is over: capture the final weights, and step 0 where that is still owed.

        Raises:
            ClientError: see `forward`.
        """
        model = self._model()
        if model is None or not self._forwards:
            return
        # After a failure on a GPU the next call there may hang or fail for good.
        if status == "failed" and any(p.is_cuda for p in model.parameters()):
            return
        if self._probes is None:
            seen = self._plan.collector.count
            if self._plan.probe is None and seen < FEWEST:
                LOG.warning(
                    "no capture: training ended after %d images, a probe set needs %d; pass probe=", seen, FEWEST
                )
                return
            self._begin(self._plan.collector.finish(), self.step)
        if self._last_step != self.step:
            self._take(self.step, time.time())

    def _gather(self, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._plan.probe is not None:
            given = self._plan.probe
            self._begun = (step, time.time())
            self._begin(freeze(given.inputs(), given.images, given.source), step)
            return
        model = self._model()
        if self._begun is None and model is not None:
            self._begun = (step, time.time())
            self._weights = weights_copy(model)
            if self._weights is None:
                LOG.info("the weights are too large to copy, or not there yet: no capture at step %d", step)
        self._plan.collector.offer(args, kwargs)
        if self._plan.collector.complete:
            self._begin(self._plan.collector.finish(), step)

    def _begin(self, probes: FrozenProbes, now: int) -> None:
        """Take the first capture, with the weights of the first forward; ``now`` is the step meanwhile reached."""
        model = self._model()
        if model is None or self._begun is None:
            return
        self._probes = probes
        shape = probes.inputs.shape
        if self._channels_last is None and not (len(shape) == 4 and (shape[2] == shape[3] or shape[1] == shape[2])):
            # Only square images make the shape of a feature map say where its channels are.
            self._channels_last = False
        if self.layers is None:
            self.layers = choose(observe(model, probes.inputs[:2], probes.argument), self._channels_last)
            LOG.info("watching the layers %s", ", ".join(self.layers))
        self._probes_ready(probes.shown)
        step, at = self._begun
        if self._weights is not None or self._plan.probe is not None:
            self._take(step, at, self._weights)
        self._weights = None
        # What was due while the probe set grew is over; what is due from this step on is not.
        self._plan.schedule.captured(max(step, now - 1), time.perf_counter(), self.capture_seconds)

    def _take(self, step: int, at: float, weights: dict[str, Tensor] | None = None) -> None:
        model, probes = self._model(), self._probes
        if model is None or probes is None or self.layers is None:
            return
        started = time.perf_counter()
        options: dict[str, Any] = {"argument": probes.argument, "how": self._plan.how, "weights": weights}
        found = capture(model, self.layers, probes.inputs, channels_last=self._channels_last, **options)
        self._check(found, step)
        self._captured(CaptureItem(self.captures, step, at, probes.shown.fingerprint, found))
        now = time.perf_counter()
        self.captures += 1
        self.capture_seconds += now - started
        self._last_step = step
        self._plan.schedule.captured(step, now, now - started)

    def _check(self, found: dict[str, np.ndarray], step: int) -> None:
        for layer, values in found.items():
            if values.shape[1] > limits.MAX_UNITS:
                raise ClientError(
                    f"layer {layer!r} has {values.shape[1]} units: {limits.MAX_UNITS} are allowed; leave it out"
                )
            if not self._warned_nan and not np.isfinite(values).all():
                self._warned_nan = True
                LOG.warning(
                    "NaN or infinite activations in layer %r at step %d: the server masks those units", layer, step
                )
        total = sum(values.nbytes for values in found.values())
        if total > limits.MAX_CAPTURE:
            raise ClientError(f"a capture has {total} bytes: {limits.MAX_CAPTURE} are allowed; watch fewer layers=[…]")
