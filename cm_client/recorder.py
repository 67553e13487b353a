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

from cm_client.calls import Call, find_images, stands_alone
from cm_client.capture import CHUNK, NoRoomError, capture, weights_copy
from cm_client.collect import FEWEST, Collector
from cm_client.discovery import Output, choose, observe
from cm_client.errors import ClientError
from cm_client.optimisers import WeightsMoved
from cm_client.outbox import CaptureItem, ProbeImages
from cm_client.probe import FrozenProbes, ProbeSet, freeze
from cm_client.processes import refuse_helper_rank, refuse_sharded
from cm_client.protocol import limits
from cm_client.schedule import Schedule
from cm_client.steps import StepCounter

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
        optimisers: those whose steps are the model's, none to find out.
    """

    layers: Sequence[str] | None
    probe: ProbeSet | None
    how: str
    channels_last: bool | None
    schedule: Schedule
    collector: Collector
    start_step: int = 0
    optimisers: tuple[Any, ...] = ()


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
        self.steps = StepCounter(WeightsMoved(model), bool(plan.optimisers), plan.start_step)
        self._chunk = CHUNK
        self._warned: set[str] = set()

    @property
    def step(self) -> int:
        """Steps done, see `StepCounter`."""
        return self.steps.step

    @property
    def probes(self) -> int:
        """Images in the probe set, 0 before there is one."""
        return 0 if self._probes is None else len(self._probes.inputs)

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A training forward is about to run.

        Raises:
            ClientError: the model cannot be watched so; the text says what to do.
        """
        step = self.steps.forward()
        if self.steps.forwards == 1:
            refuse_helper_rank()
        self._look(step, args, kwargs)

    def unseen(self) -> None:
        """An optimiser is about to step, and no forward of the model was seen for many steps.

        Raises:
            ClientError: see `forward`.
        """
        if self._plan.probe is not None or self._probes is not None:
            self._look(self.step, (), {})
        elif "unseen" not in self._warned:
            self._warned.add("unseen")
            LOG.warning(
                "optimiser steps, but no forward of the watched model: it is compiled into something larger, or its "
                "parts are called without it; watch what the loop calls, or pass probe=cm_client.ProbeSet(…)"
            )

    def _look(self, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
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
        if model is None or not (self.steps.forwards or self.captures):
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
            self._begin(self._plan.collector.calls(), self.step)
        if self._last_step != self.steps.now():
            self._take(self.step, time.time())

    def _gather(self, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        model = self._model()
        if model is None:
            return
        if self._begun is None:
            refuse_sharded(model)
        given = self._plan.probe
        if given is not None:
            # The first forward makes the weights of lazy modules, and draws random numbers for that.
            if not any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
                self._begun = (step, time.time())
                path, _ = find_images(args, kwargs)
                call = Call(path) if path is not None and stands_alone(path) else None
                self._begin([freeze(given.inputs(), given.images, given.source, call)], step)
            return
        if self._begun is None:
            self._begun = (step, time.time())
            self._weights = weights_copy(model)
            if self._weights is None:
                LOG.info("the weights are too large to copy, or not there yet: no capture at step %d", step)
        self._plan.collector.offer(args, kwargs)
        if self._plan.collector.complete:
            self._begin(self._plan.collector.calls(), step)

    def _begin(self, ways: Sequence[FrozenProbes], now: int) -> None:
        """Take the first capture, with the weights of the first forward; ``now`` is the step meanwhile reached."""
        model = self._model()
        if model is None or self._begun is None:
            return
        probes, outputs = _first_that_works(model, ways)
        self._probes = probes
        if self._plan.probe is None:
            self._plan.collector.settled(probes)
        shape = probes.inputs.shape
        if self._channels_last is None and not (len(shape) == 4 and (shape[2] == shape[3] or shape[1] == shape[2])):
            # Only square images make the shape of a feature map say where its channels are.
            self._channels_last = False
        if self.layers is None:
            self.layers = choose(outputs, self._channels_last)
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
        options: dict[str, Any] = {"call": probes.call, "how": self._plan.how, "weights": weights}
        options |= {"channels_last": self._channels_last, "chunk": self._chunk}
        try:
            found = capture(model, self.layers, probes.inputs, **options)
        except NoRoomError as error:
            self._skip(step, started, error)
            return
        self._check(found, step)
        self._captured(CaptureItem(self.captures, step, at, probes.shown.fingerprint, found))
        now = time.perf_counter()
        self.captures += 1
        self.capture_seconds += now - started
        self._last_step = step
        self._plan.schedule.captured(step, now, now - started)

    def _skip(self, step: int, started: float, error: NoRoomError) -> None:
        self._chunk = CHUNK // 8
        now = time.perf_counter()
        self._plan.schedule.captured(step, now, now - started)
        if "room" not in self._warned:
            self._warned.add("room")
            LOG.warning("no capture at step %d: %s; training goes on, and so does watching", step, error)

    def _check(self, found: dict[str, np.ndarray], step: int) -> None:
        for layer, values in found.items():
            if values.shape[1] > limits.MAX_UNITS:
                raise ClientError(
                    f"layer {layer!r} has {values.shape[1]} units: {limits.MAX_UNITS} are allowed; leave it out"
                )
            if "nan" not in self._warned and not np.isfinite(values).all():
                self._warned.add("nan")
                LOG.warning(
                    "NaN or infinite activations in layer %r at step %d: the server masks those units", layer, step
                )
        total = sum(values.nbytes for values in found.values())
        if total > limits.MAX_CAPTURE:
            raise ClientError(f"a capture has {total} bytes: {limits.MAX_CAPTURE} are allowed; watch fewer layers=[…]")


def _first_that_works(model: nn.Module, ways: Sequence[FrozenProbes]) -> tuple[FrozenProbes, list[Output]]:
    """The first way to call the model that it accepts, and what its modules put out then.

    Raises:
        ClientError: it accepts none; the first one's error.
    """
    problem: ClientError | None = None
    for probes in ways:
        try:
            return probes, observe(model, probes.inputs[:2], probes.call)
        except ClientError as error:
            problem = problem or error
    raise problem or ClientError("no probe set")
