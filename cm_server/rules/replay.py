"""A finished series through exactly the live engine: what would have been said, and at which snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from cm_server.core.alerting import Transition
from cm_server.core.flow import FlowWatch
from cm_server.core.watching import LayerWatch
from cm_server.report import LayerSummary
from cm_server.rules.book import LayerSettings


@dataclass(frozen=True)
class Sample:
    """One row of history.

    Attributes:
        index: its number, from 0; several layers' rows are counted together.
        step: of the snapshot.
        summary: its numbers; None where a capture never arrived.
        time: seconds on any clock; None where it is not known.
    """

    index: int
    step: int
    summary: LayerSummary | None
    time: float | None = None


@dataclass(frozen=True)
class Event:
    """A transition, and the row that brought it (the last one, for the end)."""

    index: int
    layer: str
    transition: Transition


def replay(
    samples: Iterable[Sample], settings: LayerSettings, planned_steps: int | None = None, *, ended: bool = True
) -> Iterator[Event]:
    """Runs history of one layer through its rules.

    Args:
        samples: oldest first.
        settings: what is in force for that layer.
        planned_steps: the run's length, if it was known.
        ended: whether the history is that of a run that is over.

    Yields:
        Every change of state, also those that nobody is told of.
    """
    watch = LayerWatch(settings.rules, replace(settings.about, planned_steps=planned_steps))
    flow: FlowWatch | None = None
    last: Sample | None = None
    layer = ""
    for sample in samples:
        last = sample
        if sample.time is not None:
            flow = flow or FlowWatch(settings.flow_rules, sample.time)
            yield from (Event(sample.index, "", change) for change in _flowing(flow, sample))
        if sample.summary is not None:
            layer = sample.summary.layer
            yield from (Event(sample.index, layer, change) for change in watch.take(sample.step, sample.summary))
    if last is not None and ended:
        yield from (Event(last.index, layer, change) for change in watch.end(last.step))
        yield from (Event(last.index, "", change) for change in (flow.end() if flow else ()))


def _flowing(flow: FlowWatch, sample: Sample) -> list[Transition]:
    assert sample.time is not None
    # The live clock ticks all the while; the one tick that matters is the last before the silence is broken.
    changes = flow.tick(sample.time)
    if sample.summary is None:
        return changes + flow.lost("never arrived", sample.time)
    return changes + flow.snapshot(sample.step, sample.time)
