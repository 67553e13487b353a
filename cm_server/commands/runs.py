"""``concept-monitor runs``: what is in a store; ``runs evolution RUN``: what a run learned between two steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.report import RunInfo
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON instead of a table"))
_DESCRIPTION = (
    "Lists the runs in a store, newest first. `concept-monitor runs evolution RUN` says what changed between two\n"
    "steps, `concept-monitor runs verify` whether all is as it was written."
)


def run(arguments: Sequence[str]) -> int:
    """Lists the runs, newest first."""
    if arguments and arguments[0] == "evolution":
        from cm_server.commands import evolution

        return evolution.run(arguments[1:])
    if arguments and arguments[0] == "verify":
        from cm_server.commands import runs_verify

        return runs_verify.run(arguments[1:])
    flags = parser_for("concept-monitor runs", _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "runs")
    reader = StoreReader(Path(values["store"]))
    rows = [_row(reader, info) for info in reader.runs()]
    if values["json"]:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows, values["store"])
    reader.close()
    return 0


def _row(reader: StoreReader, info: RunInfo) -> dict[str, Any]:
    series = reader.series(info.run)
    deepest = list(series)[-1] if series else ""
    points = series.get(deepest, [])
    firing = [alert for alert in reader.alerts(info.run) if alert.state == "firing"]
    row = asdict(info) | {
        "layer": deepest,
        "snapshots": len(points),
        "last_step": points[-1].step if points else None,
        "d_anchor_first": _finite(points[0].summary.d_anchor) if points else None,
        "d_anchor_last": _finite(points[-1].summary.d_anchor) if points else None,
        "open_alerts": len(firing),
    }
    return row


def _finite(value: float) -> float | None:
    return value if value == value else None


def _print_table(rows: list[dict[str, Any]], store: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(f"no runs in {store} yet: add cm_client.watch(model) to a training script")
        return
    table = Table("run", "name", "state", "begun", "sample", "snapshots", "step", "layer", "d_anchor", "open alerts")
    for row in rows:
        begun = datetime.fromtimestamp(row["created"]).strftime("%Y-%m-%d %H:%M")
        fall = " → ".join("-" if row[k] is None else f"{row[k]:.4f}" for k in ("d_anchor_first", "d_anchor_last"))
        step = "-" if row["last_step"] is None else str(row["last_step"])
        cells = (
            row["run"],
            row["name"],
            row["state"],
            begun,
            row["sample"],
            str(row["snapshots"]),
            step,
            row["layer"],
            fall,
        )
        table.add_row(*cells, str(row["open_alerts"]))
    Console().print(table, markup=False)
