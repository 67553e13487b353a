"""`watch`: the one line that starts it all; and what happens to monitors at a fork and at the process's end."""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import socket
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from torch import nn

from cm_client.collect import Collector, Unnormalize
from cm_client.discovery import checked
from cm_client.errors import ClientError
from cm_client.hooks import unwrapped
from cm_client.kept_inputs import KeptInputs
from cm_client.leftovers import send_leftovers
from cm_client.monitor import Monitor, live
from cm_client.notebook import Place, place, same_cell_again
from cm_client.plan import Plan
from cm_client.pooling import POOLS
from cm_client.probe import ProbeSet, probe_set
from cm_client.processes import is_helper_rank
from cm_client.protocol import limits
from cm_client.protocol.messages import Hello
from cm_client.schedule import Every, make_schedule
from cm_client.settings import Settings, plain_config, resolve
from cm_client.spool_folders import create
from cm_client.stream import Picture, Stream
from cm_client.transport import MakeSpool

LOG = logging.getLogger("cm_client")

_by_model: weakref.WeakKeyDictionary[nn.Module, Monitor] = weakref.WeakKeyDictionary()
_runs: set[str] = set()
_places: weakref.WeakKeyDictionary[Monitor, Place] = weakref.WeakKeyDictionary()


def watch(
    model: nn.Module,
    *,
    server: str | None = None,
    key: str | os.PathLike[str] | None = None,
    layers: Sequence[str] | None = None,
    probe: ProbeSet | str | os.PathLike[str] | None = None,
    every: Every = None,
    budget: float | None = None,
    sample: str | None = None,
    optimizer: Any = None,
    run: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    planned_steps: int | None = None,
    start_step: int | None = None,
    probe_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    unnormalize: Unnormalize | None = None,
    pool: str = "mean",
    channels_last: bool | None = None,
    mode: str | None = None,
    auto_stop: bool = False,
) -> Monitor:
    """Watch how the concepts of ``model``'s neurons change while it trains. Watching a watched model gives its monitor.

    Without a ``probe`` set it is collected from the first training inputs, and only then is the step-0 capture taken,
    with a copy of the weights of the first forward; captures due in between are not taken.

    Args:
        model: what the training loop calls: the compiled or wrapped model where there is one.
        server: ZeroMQ address (CM_SERVER; default tcp://127.0.0.1:7801).
        key: a key file made by ``concept-monitor keygen``, for a server on another machine (CM_KEY).
        layers: module paths; by default the outputs of the last four stages.
        probe: a probe set of your own, or a folder of pictures (`ProbeSet.from_folder`, normalised by ``mean`` and
            ``std`` where given).
        every: when to capture: a number of steps between captures (CM_EVERY), `cm_client.every`,
            `cm_client.log_spaced`, `cm_client.at`, or a function of the step. By default as often as ``budget`` allows.
        budget: share of the wall time that watching may cost in all (CM_BUDGET; default 0.01). Captures are spaced so
            that it is kept; what cannot be kept is said in `cm_client.schedule.Budget`.
        sample: ``probe`` runs a fixed probe set through the model, in eval mode (the default). ``stream`` runs nothing:
            captures are made of the training's own batches as they come by (CM_SAMPLE); see `Monitor.samples`.
        optimizer: the optimiser (or several, in a list) whose steps count; by default every one that holds a parameter
            of the model, and in a loop without any, the training forwards.
        run: id of the run (CM_RUN); by default from date and time.
        name: what the dashboard shows (CM_NAME); by default the id.
        config: settings of yours to keep with the run, flat (a dict or a namespace).
        planned_steps: length of the training (CM_PLANNED_STEPS).
        start_step: where training goes on from a checkpoint, the optimiser steps done before (CM_START_STEP). With the
            ``run`` of the earlier process its series go on; what that one captured from this step on is superseded.
        probe_size: images to collect, or in one capture of the stream (CM_PROBE_SIZE; default 1,024).
        mean: per channel, in 0..1 units: how the images were normalised, so that the server sees them as they were.
        std: see ``mean``.
        unnormalize: a function instead of ``mean`` and ``std``.
        pool: ``mean`` or ``max`` over positions.
        channels_last: layout of 4-D outputs; by default told from their shapes.
        mode: ``online``, ``offline`` (only into the disk spool, for ``concept-monitor sync``) or ``disabled``
            (CM_MODE).
        auto_stop: let an alert of severity ``error`` turn `Monitor.should_stop` true.

    What the server has not acknowledged yet is kept on disk (CM_SPOOL: a folder or ``off``, by default the user's state
    folder; CM_SPOOL_BYTES: at most so much, 2 GiB by default), and outlives this process.

    Returns:
        The monitor. Where something is wrong it does nothing, and one warning says why (CM_STRICT=1 raises instead).
    """
    try:
        wanted: dict[str, Any] = {"server": server, "run": run, "name": name, "every": every, "mode": mode}
        wanted |= {"budget": budget, "sample": sample, "key": key}
        told = resolve(planned_steps=planned_steps, probe_size=probe_size, start_step=start_step, **wanted)
        if told.mode == "disabled" or is_helper_rank():
            return Monitor()
        known = _adopted(model, run)
        if known is not None:
            return known
        if pool not in POOLS:
            raise ClientError(f"pool {pool!r}: choose 'mean' or 'max'")
        told = _distinct(told, run)
        given = probe_set(probe, mean, std)
        collector = Collector(told.probe_size, mean, std, unnormalize, _earlier_inputs(told, given))
        schedule = make_schedule(told.every, told.budget)
        stream = None
        if told.sample == "stream":
            _check_stream(model, given)
            how = pool, channels_last
            stream = partial(Stream, told.run, told.probe_size, Picture(mean, std, unnormalize), *how)
        chosen = _known_layers(model, layers), given, pool, channels_last
        budget = told.budget if told.every is None else None
        plan = Plan(
            *chosen, schedule, collector, max(0, told.start_step), _as_tuple(optimizer), budget=budget, stream=stream
        )
        return _started(model, plan, told, plain_config(config), auto_stop)
    except Exception as error:
        if os.environ.get("CM_STRICT") == "1":
            raise
        LOG.warning("not watching, training goes on: %s", error)
        return Monitor()


def _started(model: nn.Module, plan: Plan, told: Settings, config: dict[str, Any], auto_stop: bool) -> Monitor:
    for note in told.notes:
        LOG.warning(note)
    kind, host = type(unwrapped(model)).__name__[:200], socket.gethostname()[:200]
    about = told.name, kind, told.planned_steps, time.time(), _version(), host, os.getpid(), config
    hello = Hello(*about, told.start_step, sample=told.sample)
    here = place()
    for other in list(live):
        if other.run == told.run or same_cell_again(_places.get(other), here):
            LOG.info("run %s ends here: %s is watched in its place", other.run, kind)
            other.give_way()
    monitor = Monitor(told.run, told.strict, auto_stop)
    if here is not None:
        _places[monitor] = here
    server = None if told.mode == "offline" else told.server
    monitor.begin(model, plan, server, hello, _spool_maker(told), lambda: _take_up(told), told.keys)
    _by_model[unwrapped(model)] = monitor
    _runs.add(told.run)
    return monitor


def _check_stream(model: nn.Module, probe: ProbeSet | None) -> None:
    if probe is not None:
        raise ClientError("sample='stream' takes its images from the training batches: leave probe= out")
    if getattr(unwrapped(model), "_compiled_call_impl", None) is not None:
        raise ClientError(
            "sample='stream' cannot see into a model compiled in place: use compiled = torch.compile(model) and watch "
            "that, or sample='probe'"
        )
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise ClientError(
            "sample='stream' cannot follow a batch through DataParallel's replicas: use DistributedDataParallel, "
            "or sample='probe'"
        )


def _as_tuple(optimizer: Any) -> tuple[Any, ...]:
    if optimizer is None:
        return ()
    return tuple(optimizer) if isinstance(optimizer, list | tuple) else (optimizer,)


def _earlier_inputs(told: Settings, probe: ProbeSet | None) -> KeptInputs | None:
    if told.spool is None or not told.named or probe is not None or told.sample == "stream":
        return None
    return KeptInputs(told.spool, told.run, told.spool_bytes // 4)


def _spool_maker(told: Settings) -> MakeSpool | None:
    root = told.spool
    if root is None:
        return None
    return lambda epoch, hello: create(root, told.run, epoch, hello, told.spool_bytes)


def _take_up(told: Settings) -> None:
    """The server is there: send it what earlier processes of this run left on this machine."""
    if told.spool is not None:
        send_leftovers(told.spool / told.run, told.server, told.keys)


def _adopted(model: nn.Module, run: str | None) -> Monitor | None:
    if not isinstance(model, nn.Module):
        raise ClientError(
            f"{type(model).__name__} is not a torch.nn.Module: watch the model that the training loop calls"
        )
    known = _by_model.get(unwrapped(model))
    if known is None or not known.watching:
        return None
    if run is None or run == known.run:
        LOG.info("already watched as run %s; call finish() first to begin another", known.run)
        return known
    known.finish()
    return None


def _known_layers(model: nn.Module, layers: Sequence[str] | None) -> list[str] | None:
    if layers is None:
        return None
    asked = [layers] if isinstance(layers, str) else list(layers)
    known, sentences = checked(unwrapped(model), asked)
    if not known or len(known) > limits.MAX_LAYERS:
        raise ClientError("; ".join(sentences) or f"layers={asked}: name 1 to {limits.MAX_LAYERS}, or leave it out")
    for sentence in sentences:
        LOG.warning("%s; watching %s", sentence, ", ".join(known))
    return known


def _distinct(told: Settings, run: str | None) -> Settings:
    # Two models in one process cannot both be the run that CM_RUN names.
    if run is not None or told.run not in _runs:
        return told
    number = next(n for n in range(2, 10_000) if f"{told.run[:58]}-{n}" not in _runs)
    return dataclasses.replace(told, run=f"{told.run[:58]}-{number}")


def _version() -> str:
    try:
        return metadata.version("concept-monitor")
    except metadata.PackageNotFoundError:
        return "not installed"


@atexit.register
def _finish_all() -> None:
    failed = hasattr(sys, "last_type") and not hasattr(sys, "ps1")
    until = time.monotonic() + 10.0
    ending = [monitor for monitor in list(live) if monitor.leave(until, "failed" if failed else "finished")]
    for monitor in ending:
        monitor.settle(until)


def _forget_in_child() -> None:
    # The sender thread and its socket stayed with the parent; a forked child only has copies that must not be touched.
    for monitor in list(live):
        monitor.forget()
    live.clear()


os.register_at_fork(after_in_child=_forget_in_child)
