"""TensorBoard event files, by TensorBoard's own writer: the layers' numbers and the logged quantities as scalars."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

with warnings.catch_warnings():  # what its protocol buffers say about their own future
    warnings.simplefilter("ignore")
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.plugins.text.summary_v2 import text_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

from cm_server.exports.selection import Selection

NUMBERS = ("d_anchor", "ideal", "chance", "coverage", "pairwise", "effective_words")
NUMBERS += ("interpretable", "distinct", "live")
"""Of `LayerSummary`, as ``d_anchor/layer4``."""


def write(selection: Selection, folder: Path) -> int:
    """Writes one event file into a folder that exists, ordered by step; alerts are texts.

    Returns:
        How many events.
    """
    writer = EventFileWriter(str(folder))
    count = 0
    try:
        for event in sorted(_events(selection), key=lambda event: event.step):
            writer.add_event(event)
            count += 1
        writer.flush()
    finally:
        writer.close()
    return count


def _events(selection: Selection) -> Iterator[Event]:
    reader, run = selection.reader, selection.info.run
    for layer, points in reader.series(run).items():
        for point in points if layer in selection.layers else []:
            values = [_scalar(f"{name}/{layer}", getattr(point.summary, name)) for name in NUMBERS]
            values += [_scalar(f"category {k}/{layer}", v) for k, v in sorted(point.summary.categories.items())]
            yield Event(wall_time=point.time, step=point.step, summary=Summary(value=values))
    for name, scalar in reader.scalars(run)[0].items():
        columns = scalar.steps.tolist(), scalar.values.tolist(), scalar.times.tolist()
        for step, value, at in zip(*columns, strict=True):
            yield Event(wall_time=at, step=step, summary=Summary(value=[_scalar(name, value)]))
    for alert in reader.alerts(run):
        told = text_pb(f"alerts/{alert.rule}", f"{alert.severity}, {alert.layer}: {alert.message}")
        yield Event(wall_time=alert.opened, step=alert.step, summary=told)


def _scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=float(value))
