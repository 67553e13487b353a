"""JSON lines: one object a line, ``type`` says what it is; numbers that are none are null."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, TextIO

from cm_server.exports.selection import Selection, columns
from cm_server.stores.finite import finite


def write(selection: Selection, out: TextIO) -> int:
    """Writes the run, its layers' numbers, logged quantities, alerts and gaps; then the selected neurons.

    Returns:
        How many lines.
    """
    count = 0
    for line in _lines(selection):
        out.write(json.dumps(finite(line), ensure_ascii=False, allow_nan=False) + "\n")
        count += 1
    return count


def _lines(selection: Selection) -> Iterator[Mapping[str, Any]]:
    reader, info = selection.reader, selection.info
    yield {"type": "run"} | asdict(info)
    for layer, points in reader.series(info.run).items():
        if layer in selection.layers:
            for point in points:
                yield {"type": "layer", "step": point.step, "time": point.time} | asdict(point.summary)
    for name, scalar in reader.scalars(info.run)[0].items():
        for step, value in zip(scalar.steps.tolist(), scalar.values.tolist(), strict=True):
            yield {"type": "scalar", "name": name, "step": step, "value": value}
    for alert in reversed(reader.alerts(info.run)):
        yield {"type": "alert"} | asdict(alert)
    for gap in reader.gaps(info.run):
        yield {"type": "gap", "step": gap.step, "time": gap.time, "reason": gap.reason}
    for step, layer, report in selection.reports():
        neurons = columns(report, selection.words)
        for values in zip(*neurons.values(), strict=True):
            yield {"type": "unit", "step": step, "layer": layer} | dict(zip(neurons, values, strict=True))
