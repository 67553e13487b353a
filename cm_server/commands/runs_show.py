"""``concept-monitor runs show RUN``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from cm_server.commands.run_orders import known_run
from cm_server.commands.runs_list import row
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable
from cm_server.stores.finite import finite
from cm_server.stores.overview import run_lines
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON instead of text"))
_PROGRAM = "concept-monitor runs show"
_DESCRIPTION = "Shows all about one run: its layers, processes, logged quantities, alerts, gaps and configuration."


def run(arguments: Sequence[str]) -> int:
    """Shows one run."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    with closing(StoreReader(Path(values["store"]))) as reader:
        found = describe(reader, known_run(reader, flags.run))
    print(json.dumps(found, indent=2, allow_nan=False) if values["json"] else _text(found))
    return 0


def describe(reader: StoreReader, run: str) -> dict[str, Any]:
    """All about a run, as plain JSON."""
    info = reader.run(run)
    assert info is not None  # the caller found it
    found = row(run_lines(reader, [info])[0])
    series = reader.series(run)
    found["layers"] = [
        {
            "layer": layer,
            "units": units,
            "snapshots": len(points := series.get(layer, [])),
            "with_units": sum(point.units for point in points),
            "first": _ends(points[0].summary) if points else None,
            "last": _ends(points[-1].summary) if points else None,
        }
        for layer, units in reader.layers(run)
    ]
    found["processes"] = [vars(epoch) for epoch in reader.epochs(run)]
    scalars = reader.scalars(run)[0]
    found["scalars"] = {n: {"count": len(s.steps), "last": _number(s.values[-1])} for n, s in scalars.items()}
    found["alerts"] = [vars(alert) | {"value": _number(alert.value)} for alert in reader.alerts(run)]
    found["gaps"] = [{"step": gap.step, "time": gap.time, "reason": gap.reason} for gap in reader.gaps(run)]
    return finite(found)


def _ends(summary: Any) -> dict[str, Any]:
    names = ("d_anchor", "ideal", "chance", "interpretable", "live", "distinct", "fingerprint")
    return {name: getattr(summary, name) for name in names}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(run: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(run["created"]).strftime("%Y-%m-%d %H:%M")
    lines = [
        f"{run['run']}  {run['name'] if run['name'] != run['run'] else ''}".rstrip(),
        f"  state        {run['state']}, begun {when}, last step {run['last_step']}",
        f"  tags         {', '.join(run['tags']) or 'none'}",
        f"  model        {run['model']}; encoder {run['encoder']}, detector {run['detector']}, {run['probes']} images",
        f"  on disk      {readable(run['bytes'])} of arrays, {run['snapshots']} snapshots",
    ]
    for layer in run["layers"]:
        ends = [layer[key] for key in ("first", "last") if layer[key]]
        fall = " → ".join("-" if e["d_anchor"] is None else f"{e['d_anchor']:.4f}" for e in ends)
        thinned = layer["snapshots"] - layer["with_units"]
        told = f", {thinned} of {layer['snapshots']} without their neurons" if thinned else ""
        lines.append(f"  layer        {layer['layer']}: {layer['units']} neurons, d_anchor {fall or '-'}{told}")
    for number, process in enumerate(run["processes"], 1):
        steps = f"steps {process['first_step']} to {process['last_step']}"
        lines.append(f"  process {number:<4} {steps}, {process['ended'] or 'not ended'}")
    for name, scalar in run["scalars"].items():
        lines.append(f"  logged       {name}: {scalar['count']} values, last {scalar['last']}")
    for alert in run["alerts"]:
        where = alert["layer"] or "the run"
        lines.append(f"  alert        {alert['rule']} in {where}, step {alert['step']}, {alert['state']}")
    if gaps := run["gaps"]:
        lines.append(f"  gaps         {len(gaps)}, the last at step {gaps[-1]['step']}: {gaps[-1]['reason']}")
    lines += [f"  config       {key} = {value}" for key, value in run["config"].items()]
    return "\n".join(lines)
