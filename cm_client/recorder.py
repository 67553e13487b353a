"""From training forwards to captures: counts steps, gathers the probe set, and captures when the schedule says so."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from cm_client.calls import Call, find_images, stands_alone
from cm_client.capture import CHUNK, NoRoomError, capture, check_sizes, weights_copy
from cm_client.collect import FEWEST
from cm_client.discovery import Output, checked, choose, observe
from cm_client.errors import ClientError
from cm_client.first_capture import FirstCapture
from cm_client.meter import Meter
from cm_client.optimisers import WeightsMoved
from cm_client.outbox import CaptureItem, ProbeImages, StreamSample
from cm_client.plan import Plan
from cm_client.probe import FrozenProbes, freeze
from cm_client.processes import refuse_helper_rank, refuse_sharded
from cm_client.protocol import limits
from cm_client.protocol.needs import Needs
from cm_client.steps import StepCounter
from cm_client.stream import Stream

LOG = logging.getLogger("cm_client")


class Recorder:
    """Told of each training forward of ``model`` (the unwrapped module); hands on a probe set once and captures.

    Args:
        model: kept by a weak reference only.
        plan: what to record.
        probes_ready: takes the probe set's images.
        captured: takes a capture.
        meter: says what the client has cost so far.
        guard: through which hooks in the model call.
        needs: what the server wants captures to carry; None until it has said so.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        probes_ready: Callable[[ProbeImages], None],
        captured: Callable[[CaptureItem], None],
        meter: Meter,
        guard: Callable[..., None],
        needs: Callable[[], Needs | None] = lambda: None,
    ) -> None:
        self.layers = list(plan.layers) if plan.layers is not None else None
        self.captures = 0
        self.paused = False
        self._meter = meter
        self._asked = False
        self._busy = True
        """Whether a step needs a look although no capture is due."""
        self._window_from = 0.0
        self.stream = plan.stream(guard, self._streamed) if plan.stream else None
        if self.stream is not None:
            self.stream.layers = self.layers
        self._model = weakref.ref(model)
        self._plan, self._schedule = plan, plan.schedule
        self._channels_last = plan.channels_last
        self._probes_ready, self._captured, self._needs = probes_ready, captured, needs
        self._first = FirstCapture(needs)
        self._probes: FrozenProbes | None = None
        self._weights: dict[str, Tensor] | None = None
        self._begun: tuple[int, float] | None = None
        self._last_step = -1
        self._step = 0
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

    def counted(self, look: bool = False) -> bool:
        """A training forward is about to run: count it, and say whether to look at it with `forward`.

        Args:
            look: whether to look at it in any case.
        """
        self._step = self.steps.forward()
        if look or self._busy or self._step >= self._schedule.earliest:
            return True
        if self.stream is not None:
            self.stream.samples(None)  # ids of a forward that is passed by are nobody else's
        return False

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any], traced: bool = False) -> None:
        """The training forward just counted is about to run, or (``traced``) has run where it could not tell.

        Raises:
            ClientError: the model cannot be watched so; the text says what to do.
        """
        step = self._step
        self._meter.start()
        if self.steps.forwards == 1:
            refuse_helper_rank()
        if self.stream is None:
            self._look(step, args, kwargs)
        elif traced:
            raise ClientError(
                "sample='stream' cannot see into a model that was compiled after watch(model): watch what the loop "
                "calls, cm_client.watch(torch.compile(model)), or use sample='probe'"
            )
        else:
            self._sample(self.stream, step, args, kwargs)

    def unseen(self) -> None:
        """An optimiser is about to step, and no forward of the model was seen for many steps.

        Raises:
            ClientError: see `forward`.
        """
        if self.stream is None and (self._plan.probe is not None or self._probes is not None):
            self._look(self.step, (), {})
        elif "unseen" not in self._warned:
            self._warned.add("unseen")
            LOG.warning(
                "optimiser steps, but no forward of the watched model: it is compiled into something larger, or its "
                "parts are called without it; watch what the loop calls, or pass probe=cm_client.ProbeSet(…)"
            )

    def _look(self, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._settle()
        if self._probes is None:
            self._gather(step, args, kwargs)
        if self._probes is not None:
            self._busy = self._first.waiting
            if self._due(step):
                self._take(step, time.time())

    def _sample(self, stream: Stream, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        model = self._model()
        if model is not None:
            stream.forward(model, step, args, kwargs, self._opens)
        self._busy = stream.busy

    def close(self, status: str) -> None:
        """Training is over: capture the final weights, and step 0 where that is still owed.

        Raises:
            ClientError: see `forward`.
        """
        model = self._model()
        if model is None or not (self.steps.forwards or self.captures) or self.paused:
            return
        # After a failure on a GPU the next call there may hang or fail for good.
        if status == "failed" and any(p.is_cuda for p in model.parameters()):
            return
        if self.stream is not None:
            self.stream.close()
            return
        if self._probes is None:
            seen = self._plan.collector.count
            if self._plan.probe is None and seen < FEWEST:
                LOG.warning(
                    "no capture: training ended after %d images, a probe set needs %d; pass probe=", seen, FEWEST
                )
                return
            self._begin(self._plan.collector.calls(), self.step)
        self._settle()
        if self._last_step != self.steps.now():
            self._take(self.step, time.time())

    def pause(self, paused: bool) -> str:
        """Take no captures until further notice, or go on; a window of the stream under way is given up."""
        self.paused = paused
        if paused and self.stream is not None:
            self.stream.give_up()
        return f"{'paused' if paused else 'resumed'} at step {self.steps.now()}"

    def capture_now(self) -> str:
        """Take a capture before the next step, or open a window of the stream; says which.

        Raises:
            ClientError: it cannot be; the text says why.
        """
        if self.paused:
            raise ClientError("paused: resume first")
        if self.stream is not None and self.stream.sampling:
            return f"a window of {self.stream.size} training images is under way at step {self.step}"
        if self.stream is not None:
            self._asked = self._busy = True
            return f"a window of {self.stream.size} training images begins at step {self.step}"
        if self._probes is None:
            raise ClientError("the probe set is still being collected: ask again in a few steps")
        step = self.steps.now()
        if self._last_step != step:
            self._take(step, time.time())
        return f"captured at step {step}"

    def watch_layers(self, layers: Sequence[str]) -> str:
        """Watch other layers from the next capture on; says which.

        Raises:
            ClientError: the model has no such layer, or it gives no row per image; then everything stays as it was.
        """
        model = self._model()
        if model is None:
            raise ClientError("the model is gone")
        known, sentences = checked(model, layers)
        if sentences or not 1 <= len(known) <= limits.MAX_LAYERS:
            raise ClientError("; ".join(sentences) or f"layers {list(layers)}: name 1 to {limits.MAX_LAYERS}")
        if self.stream is not None:
            self.stream.change_layers(known)
            self._busy = True
        elif self._probes is not None:
            try:
                few = self._captured_on(model, known, self._probes.inputs[:2], None, self._needs())
                self._check(few, self.step, len(self._probes.inputs) / 2)
            except ClientError as error:
                raise ClientError(f"layers {', '.join(known)}: {error}") from error
        self.layers = known
        return f"watching {', '.join(known)} from the next capture on"

    def release(self) -> None:
        """Remove what hooks there are in the model."""
        if self.stream is not None:
            self.stream.release()

    def _due(self, step: int) -> bool:
        return not self.paused and self._schedule.due(step, self._meter.elapsed(), self._meter.spent())

    def _opens(self, step: int) -> bool:
        """Whether a window of the stream may open now."""
        if not ((self._asked and not self.paused) or self._due(step)):
            return False
        self._asked = False
        self._window_from = self._meter.thread
        return True

    def _streamed(self, sample: StreamSample, step: int, found: dict[str, np.ndarray]) -> None:
        if self.stream is not None:
            self.layers = self.stream.layers
        self._check(found, step)
        self._captured(CaptureItem(self.captures, step, time.time(), sample.fingerprint, found, sample))
        self._taken(step, self._meter.thread - self._window_from)

    def _taken(self, step: int, seconds: float) -> None:
        self.captures += 1
        self._meter.capturing += seconds
        self._last_step = step
        self._schedule.captured(step, self._meter.elapsed(), seconds)

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
                self._begin([freeze(given.inputs(), given.images, given.source, call, given.classes())], step)
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
        there = self._weights is not None or self._plan.probe is not None
        if there and self._take(step, at, self._weights) is None:
            self._first.keep(step, at, self._weights or weights_copy(model))
        self._weights = None
        # What was due while the probe set grew is over; what is due from this step on is not.
        self._schedule.captured(max(step, now - 1), self._meter.elapsed(), self._meter.capturing)

    def _settle(self) -> None:
        """Take the first capture again, with the maps that the server asked for meanwhile."""
        owed, last = self._first.owed(), self._last_step
        if owed is not None:
            kept, _ = owed
            self._take(kept.step, kept.time, kept.weights)
            self._last_step = max(last, kept.step)

    def _take(self, step: int, at: float, weights: dict[str, Tensor] | None = None) -> Needs | None:
        """Take a capture; returns what the server needed when it was taken, None where it had not said so."""
        model, probes, needs = self._model(), self._probes, self._needs()
        if model is None or probes is None or self.layers is None:
            return needs
        started = time.perf_counter()
        try:
            found = self._captured_on(model, self.layers, probes.inputs, weights, needs)
        except NoRoomError as error:
            self._skip(step, started, error)
            return needs
        self._check(found, step)
        self._captured(CaptureItem(self.captures, step, at, probes.shown.fingerprint, found))
        self._taken(step, time.perf_counter() - started)
        return needs

    def _captured_on(
        self,
        model: nn.Module,
        layers: Sequence[str],
        inputs: Tensor,
        weights: dict[str, Tensor] | None = None,
        needs: Needs | None = None,
    ) -> dict[str, np.ndarray]:
        call = self._probes.call if self._probes is not None else None
        options: dict[str, Any] = {"call": call and call.part(0, len(inputs)), "how": self._plan.how}
        options |= {"weights": weights, "channels_last": self._channels_last, "chunk": self._chunk}
        options["maps"] = needs.maps if needs is not None else None
        return capture(model, layers, inputs, **options)

    def _skip(self, step: int, started: float, error: NoRoomError) -> None:
        self._chunk = CHUNK // 8
        self._schedule.captured(step, self._meter.elapsed(), time.perf_counter() - started)
        if "room" not in self._warned:
            self._warned.add("room")
            LOG.warning("no capture at step %d: %s; training goes on, and so does watching", step, error)

    def _check(self, found: dict[str, np.ndarray], step: int, times: float = 1.0) -> None:
        check_sizes(found, times)
        for layer, values in found.items():
            if "nan" not in self._warned and not np.isfinite(values).all():
                self._warned.add("nan")
                LOG.warning(
                    "NaN or infinite activations in layer %r at step %d: the server masks those units", layer, step
                )


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
