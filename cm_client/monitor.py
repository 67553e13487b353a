"""A watched run, as the training script sees it. A guest in the loop: it never prints, raises or waits."""

from __future__ import annotations

import functools
import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cm_client.back_channel import AlertCallback, BackChannel
from cm_client.errors import ClientError
from cm_client.hooks import StepHook, unwrapped
from cm_client.keys import Keys
from cm_client.meter import Meter
from cm_client.optimisers import OptimiserHooks, sweep
from cm_client.plan import Plan
from cm_client.protocol.messages import AlertNotice, Finish, Hello
from cm_client.recorder import Recorder
from cm_client.transport import MakeSpool, Transport

LOG = logging.getLogger("cm_client")
NAMES_PER_ROW = 25

TIMED = 64
"""Of so many steps one is timed."""

live: set[Monitor] = set()
"""Monitors at work: what `watch` adopts, a forked child forgets and the process's end finishes."""


def _guest(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method called through `Monitor.guard`."""

    @functools.wraps(method)
    def guarded(self: Monitor, *args: Any) -> None:
        self.guard(method, self, *args)

    return guarded


class Monitor:
    """A watched training run. Made by `watch`; also a context manager.

    Args:
        run: id of the run.
        strict: raise internal errors instead of logging the first.
        auto_stop: let an alert of severity ``error`` turn `should_stop` true.
    """

    def __init__(self, run: str = "", strict: bool = False, auto_stop: bool = False) -> None:
        self.run = run
        self._strict = strict
        self._quiet = True
        self._closed = False
        self._error = ""
        self._meter = Meter(self._sender_seconds)
        self._back = BackChannel(auto_stop, strict, self._meter)
        self._hook = StepHook(self._counted, self._forward)
        self._optimisers: OptimiserHooks | None = None
        self._recorder: Recorder | None = None
        self._passing = 0
        self._transport: Transport | None = None
        self._warned: set[str] = set()

    def begin(
        self,
        model: nn.Module,
        plan: Plan,
        server: str | None,
        hello: Hello,
        make_spool: MakeSpool | None = None,
        welcomed: Callable[[], None] = lambda: None,
        keys: Keys | None = None,
    ) -> None:
        """Start watching ``model``; before this call (and for ever where it never comes) the monitor does nothing."""
        inner = unwrapped(model)
        self._meter.budget = plan.budget
        self._owner = weakref.ref(inner, self._model_gone)
        transport = Transport(server, self.run, hello, self.stats, self._refused, make_spool, welcomed, keys=keys)
        self._transport = transport
        hand_on = transport.set_probes, transport.add_capture
        self._recorder = Recorder(inner, plan, *hand_on, self._meter, self.guard, lambda: transport.link.needs)
        if self._recorder.stream is not None:
            self._recorder.stream.attach(model)
        self._back.listen(transport.link.alerts, transport.requests, transport.answer)
        self._quiet = False
        live.add(self)
        self._hook.attach(model)
        steps = self._recorder.steps
        self._optimisers = OptimiserHooks(inner, steps, self._hook, self._before_step, self._fail, plan.optimisers)
        self._optimisers.attach()
        self._transport.start()

    def guard(self, call: Callable[..., Any], *args: Any) -> None:
        """Time a call into the client, and let none of its errors out: the first one ends the watching."""
        if self._quiet:
            self._detach()
            return
        self._meter.enter()
        try:
            call(*args)
        except Exception as error:
            self._fail(error)
        finally:
            self._meter.leave()

    def forget(self) -> None:
        """Do nothing from now on, not even close what is open: it belongs to another process."""
        self._quiet = self._closed = True

    def give_way(self) -> None:
        """End the run at once: hand over the last word, capture nothing more, wait for nothing."""
        if not self._closed and self._transport is not None:
            self._closed = self._quiet = True
            self._detach()
            live.discard(self)
            self._transport.close(Finish("finished", self.stats()), 10.0, wait=False)

    def log(self, **scalars: Any) -> None:
        """Record figures (numbers, or tensors of one element) under the number of steps done."""
        self._log(scalars)

    def step(self, n: int) -> None:
        """Say how many steps are done, where they cannot be counted (see `StepCounter`) or begin at another number."""
        self._tell_step(n)

    def samples(self, ids: Any) -> None:
        """Name the images of the next training forward, one id each (a list, array or tensor).

        With ``sample="stream"`` an image whose id the server knows is not sent again, although augmentation makes it
        look different each time; the first look stands for it. Without ids an image is known by its content.
        """
        if self._recorder is not None and self._recorder.stream is not None:
            self._recorder.stream.samples(ids)

    def on_alert(self, callback: AlertCallback) -> None:
        """Call ``callback(alert)`` when an alert of this run begins to fire and when it is over (see ``alert.state``).

        It is called in the training's own thread, between two steps. Its errors are logged once and never raised; to
        end the training, look at `should_stop`.
        """
        self._back.on_alert(callback)

    def should_stop(self) -> bool:
        """Whether training had better stop: an alert of severity ``error`` fired and ``watch(auto_stop=True)`` was
        said, or a person asked for it (``concept-monitor request RUN stop``). Once true, it stays so.

        In distributed training only rank 0 is told: share its answer before you act on it.
        """
        self._between()
        return self._back.stop

    def finish(self, timeout: float = 10.0, status: str = "finished") -> None:
        """End the run: capture the final weights, send what is left, waiting at most ``timeout`` seconds.

        What is not sent by then is in the spool, where there is one (`concept-monitor sync` sends it later).

        Args:
            timeout: seconds, the final capture among them; nothing is waited for where there never was a server.
            status: ``finished`` or ``failed``.
        """
        until = time.monotonic() + timeout
        if self.leave(until, status):
            self.settle(until)

    def leave(self, until: float, status: str = "finished") -> bool:
        """The first half of `finish`: hand over what is left and wait for nothing; False where it was done before.

        Args:
            until: monotonic clock; the final capture is left out where it would take longer than that.
            status: ``finished`` or ``failed``.
        """
        if self._closed:
            return False
        if self._has_time(until):
            self._close_recorder(status)
        self._between()
        self._closed = True
        self._detach()
        sweep()
        live.discard(self)
        if self._transport is not None:
            self._transport.close(Finish(status, self.stats()), max(0.0, until - time.monotonic()), wait=False)
        self._quiet = True
        return True

    def settle(self, until: float) -> None:
        """The second half of `finish`: wait until everything is acked, or until then."""
        if self._transport is not None:
            self._transport.wait(until)

    def stats(self) -> dict[str, Any]:
        """Figures of the client: steps, captures, drops, bytes, and its share of the training's wall time."""
        figures = self._meter.figures()
        if self._error:
            figures["error"] = self._error[:1000]
        if self._recorder is not None and self._transport is not None:
            figures |= _recorder_figures(self._recorder) | _transport_figures(self._transport)
        return figures

    @property
    def watching(self) -> bool:
        """Whether it still watches: neither finished nor silenced by an error or a refusal."""
        return not self._quiet

    @property
    def alerts(self) -> list[AlertNotice]:
        """The server's alerts on this run so far, oldest first: one entry per change of state."""
        return self._transport.alerts if self._transport is not None else []

    def __reduce__(self) -> tuple[type[Monitor], tuple[()]]:
        # A copy (of what holds the monitor, saved or sent to another process) is not the run: it does nothing.
        return Monitor, ()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        self.finish(status="finished" if kind is None else "failed")

    def show(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A training forward that began before `watch` could hang a hook before it (integrations find the model so)."""
        if self._counted():
            self._forward(args, kwargs)

    def _counted(self) -> bool:
        """Whether there is anything to do at this training forward."""
        # Most steps cost this and no more. Reading the clock would double it: one in so many is timed, for all of them.
        self._passing += 1
        began = 0.0 if self._passing % TIMED else time.perf_counter()
        recorder = self._recorder
        if recorder is None or self._quiet:
            return True
        try:
            look = recorder.counted(self._back.waiting)
        except Exception as error:
            self._fail(error)
            return False
        if began:
            self._meter.passed(time.perf_counter() - began, TIMED)
        return look

    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.guard(self._step, args, kwargs)

    def _step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._recorder is not None:
            if self._back.waiting:
                self._back.work(self._recorder)
            self._recorder.forward(args, kwargs)

    def _before_step(self) -> None:
        if self._recorder is None:
            return
        steps = self._recorder.steps
        if not steps.by_optimiser:
            steps.stepping()
        if self._hook.traced is not None or steps.blind:
            self._untold()

    @_guest
    def _untold(self) -> None:
        """Forwards that could not call us; their step's weights are still there, so nothing is too late."""
        traced, self._hook.traced = self._hook.traced, None
        if self._recorder is not None and traced is not None:
            if self._recorder.counted():
                self._recorder.forward(*traced, traced=True)
        elif self._recorder is not None:
            self._recorder.unseen()

    def _detach(self) -> None:
        self._hook.detach()
        if self._optimisers is not None:
            self._optimisers.detach()

    @_guest
    def _between(self) -> None:
        if self._recorder is not None and self._back.waiting:
            self._back.work(self._recorder)

    @_guest
    def _log(self, scalars: dict[str, Any]) -> None:
        if self._recorder is None or self._transport is None:
            return
        values = {str(n)[:100]: v for n, raw in scalars.items() if (v := self._scalar(n, raw)) is not None}
        step, at, names = self._recorder.steps.now(), time.time(), list(values)
        for start in range(0, len(names), NAMES_PER_ROW):
            self._transport.add_scalars(step, at, {n: values[n] for n in names[start : start + NAMES_PER_ROW]})

    def _scalar(self, name: str, value: Any) -> float | Tensor | None:
        try:
            if isinstance(value, Tensor) and value.numel() == 1 and value.device.type != "cpu":
                # A copy, which later in-place changes miss; the transport's thread reads it, so nobody waits here.
                return value.detach().clone()
            return float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError):
            if name not in self._warned:
                self._warned.add(name)
                LOG.warning("log(%s=%.80r) is not a single number and was left out", name, value)
            return None

    @_guest
    def _tell_step(self, n: int) -> None:
        if self._recorder is not None:
            self._recorder.steps.tell(max(0, int(n)))

    @_guest
    def _close_recorder(self, status: str) -> None:
        if self._recorder is not None and not self._closed:
            self._recorder.close(status)

    def _sender_seconds(self) -> float:
        return self._transport.cpu_seconds if self._transport is not None else 0.0

    def _has_time(self, until: float) -> bool:
        """Whether a capture like those before would end in time."""
        captures = self._recorder.captures if self._recorder is not None else 0
        usual = self._meter.capturing / captures if captures else 0.0
        if time.monotonic() + usual < until or not usual:
            return True
        LOG.info("no final capture: it would take %.1f s, and there is less left", usual)
        return False

    def _fail(self, error: Exception) -> None:
        """The first error of our own: one line, then silence."""
        if self._recorder is not None:
            self._recorder.release()
        self._error = str(error) if isinstance(error, ClientError) else f"{type(error).__name__}: {error}"
        self._quiet = True
        self._detach()
        LOG.debug("cm_client", exc_info=error)
        if self._transport is not None:
            self._transport.close(Finish("failed", self.stats()), 10.0, wait=False)
        if self._strict:
            raise error
        LOG.warning("watching stops, training goes on: %s", self._error)

    def _refused(self, reason: str) -> None:
        # In the transport's thread: the training's own thread takes the hook off, when it comes by.
        if not self._error:
            self._quiet = True
            self._error = reason
            LOG.warning("watching stops, training goes on: %s", reason)

    def _model_gone(self, _: Any) -> None:
        # Called by the garbage collector, which may wait for nothing.
        self.give_way()


def _recorder_figures(recorder: Recorder) -> dict[str, Any]:
    return {
        "step": recorder.step,
        "probes": recorder.probes,
        "captures": recorder.captures,
        "paused": recorder.paused,
    }


def _transport_figures(transport: Transport) -> dict[str, Any]:
    box, link = transport.outbox, transport.link
    return {
        "connected": link.open,
        "captures_sent": link.captures_sent,
        "captures_acked": box.captures_acked,
        "captures_rejected": len(link.rejections),
        "captures_dropped": box.captures_dropped,
        "captures_unacked": box.unacked_captures,
        "scalars_dropped": box.scalars_dropped + transport.rows_turned_away,
        "scalars_acked": box.rows.done,
        "scalars_unacked": box.rows.unacked,
        "spool": str(transport.spool.directory) if transport.spool is not None else "",
        "bytes_sent": transport.bytes_sent,
    }
