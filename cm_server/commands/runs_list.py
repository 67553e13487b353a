"""``concept-monitor runs list``."""

from __future__ import annotations

import json
import sys
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
COLUMNS = ("run", "name", "state", "begun", "sample", "snapshots", "step", "layer", "d_anchor", "size", "open alerts")
COLUMNS += ("tags",)
FIRST = ("run", "name", "state", "step", "d_anchor", "open alerts", "tags")
"""What is shown on a terminal narrower than `WIDE`."""
WIDE, PIPED_WIDTH = 120, 200
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

    console = Console(markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    tagged = any(line.info.tags for line in lines)
    shown = [name for name in COLUMNS if (name in FIRST or console.width >= WIDE) and (tagged or name != "tags")]
    table = Table(*shown)
    for line in lines:
        cells = _cells(line)
        table.add_row(*(cells[name] for name in shown))
    console.print(table)


def _cells(line: RunLine) -> dict[str, str]:
    info = line.info
    fall = " → ".join("-" if value is None else f"{value:.4f}" for value in (line.first, line.last))
    return {
        "run": info.run,
        "name": info.name,
        "state": info.state,
        "begun": datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M"),
        "sample": info.sample,
        "snapshots": str(line.snapshots),
        "step": "-" if line.last_step is None else str(line.last_step),
        "layer": line.layer,
        "d_anchor": fall,
        "size": readable(line.size),
        "open alerts": str(line.firing),
        "tags": ", ".join(info.tags),
    }
