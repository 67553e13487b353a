"""What `watch` was asked to record, put together for the recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cm_client.collect import Collector
from cm_client.probe import ProbeSet
from cm_client.schedule import Schedule
from cm_client.stream import Stream


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
        budget: the share of the time that ``schedule`` keeps to, None where it keeps to steps.
        stream: makes the sampler of training batches, where they are sampled instead of a probe set.
    """

    layers: Sequence[str] | None
    probe: ProbeSet | None
    how: str
    channels_last: bool | None
    schedule: Schedule
    collector: Collector
    start_step: int = 0
    optimisers: tuple[Any, ...] = ()
    budget: float | None = None
    stream: Callable[[Callable[..., None], Callable[..., None]], Stream] | None = None
