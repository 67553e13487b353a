"""``concept-monitor runs list``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable
from cm_server.stores.overview import RunLine, run_lines
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON instead of a table"))
STATES = ("waiting", "running", "finished", "failed", "lost")
_DESCRIPTION = "Lists the runs in a store, newest first."


def run(arguments: Sequence[str]) -> int:
    """Lists the runs, newest first."""
    parser = parser_for("concept-monitor runs list", _DESCRIPTION, OPTIONS)
    parser.add_argument("--tag", metavar="TAG", action="append", default=[], help="only runs with this tag; repeatable")
    parser.add_argument("--state", choices=STATES, help="only runs in this state")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "runs")
    reader = StoreReader(Path(values["store"]))
    runs = [info for info in reader.runs() if flags.state in (None, info.state) and set(flags.tag) <= set(info.tags)]
    lines = run_lines(reader, runs)
    if values["json"]:
        print(json.dumps([row(line) for line in lines], indent=2))
    elif not lines:
        filtered = "no such run" if flags.tag or flags.state else "no runs"
        print(f"{filtered} in {values['store']} yet: add cm_client.watch(model) to a training script")
    else:
        _print_table(lines)
    reader.close()
    return 0


def row(line: RunLine) -> dict[str, Any]:
    """A line as plain JSON."""
    return asdict(line.info) | {
        "layer": line.layer,
        "snapshots": line.snapshots,
        "last_step": line.last_step,
        "d_anchor_first": line.first,
        "d_anchor_last": line.last,
        "open_alerts": line.firing,
        "bytes": line.size,
    }


def _print_table(lines: Sequence[RunLine]) -> None:
    from rich.console import Console
    from rich.table import Table

    tagged = any(line.info.tags for line in lines)
    heads = ("run", "name", "state", "begun", "sample", "snapshots", "step", "layer", "d_anchor", "size", "open alerts")
    table = Table(*heads, *(("tags",) if tagged else ()))
    for line in lines:
        info = line.info
        begun = datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M")
        fall = " → ".join("-" if value is None else f"{value:.4f}" for value in (line.first, line.last))
        step = "-" if line.last_step is None else str(line.last_step)
        cells = (info.run, info.name, info.state, begun, info.sample, str(line.snapshots), step, line.layer, fall)
        tags = (", ".join(info.tags),) if tagged else ()
        table.add_row(*cells, readable(line.size), str(line.firing), *tags)
    Console(markup=False).print(table)
