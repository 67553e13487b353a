"""``concept-monitor alerts list``."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.notices import OPEN_STATES, RANK, Acknowledgement, Silence
from cm_server.report import Alert
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.finite import finite
from cm_server.stores.reader import StoreReader

STATES = ("any", "open", "pending", "firing", "recovering", "resolved", "ended")
_PROGRAM = "concept-monitor alerts list"
OPTIONS = (
    PLACES[0],
    Option("json", bool, False, "print JSON instead of a table"),
)


def run(arguments: Sequence[str]) -> int:
    """Lists alerts, newest first."""
    description = "Lists the alerts in a store, newest first, with what became of them."
    parser = parser_for(_PROGRAM, description, OPTIONS)
    parser.add_argument("--run", metavar="RUN", help="only this run")
    parser.add_argument("--state", choices=STATES, default="any", help="only these; open: firing or recovering")
    parser.add_argument("--minimum", choices=tuple(RANK), default="info", help="lowest severity")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    reader = StoreReader(Path(values["store"]))
    delivery = DeliveryReader(reader.connection)
    now = time.time()
    acks, silences = delivery.acknowledgements(), delivery.silences(now)
    wanted = [alert for alert in reader.alerts(flags.run) if _is_wanted(alert, flags)]
    rows = [_row(alert, acks.get(alert.id), silences, now) for alert in wanted]
    reader.close()
    if values["json"]:
        print(json.dumps(rows, indent=2, allow_nan=False))
    else:
        _print_table(rows, values)
    return 0


def _is_wanted(alert: Alert, flags: argparse.Namespace) -> bool:
    if RANK.get(alert.severity, 0) < RANK[flags.minimum]:
        return False
    return flags.state in ("any", alert.state) or (flags.state == "open" and alert.state in OPEN_STATES)


def _row(alert: Alert, ack: Acknowledgement | None, silences: Sequence[Silence], now: float) -> dict[str, Any]:
    silence = next((s for s in silences if s.covers(alert, now)), None) if alert.state in OPEN_STATES else None
    return finite(asdict(alert)) | {
        "acknowledged": None if ack is None else {"at": ack.at, "author": ack.author, "note": ack.note},
        "silence": None if silence is None else {"id": silence.id, "expires": silence.expires, "note": silence.note},
    }


def _print_table(rows: list[dict[str, Any]], values: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        print(f"no such alerts in {values['store']}")
        return
    table = Table("id", "run", "rule", "layer", "severity", "state", "since step", "value", "opened", "mark")
    for row in rows:
        value = "-" if row["value"] is None or math.isnan(row["value"]) else f"{row['value']:.4f}"
        opened = datetime.fromtimestamp(row["opened"]).strftime("%Y-%m-%d %H:%M")
        cells = (str(row["id"]), row["run"], row["rule"], row["layer"], row["severity"], row["state"])
        table.add_row(*(Text(c) for c in (*cells, f"{row['step']:,}", value, opened, _mark(row))))
    Console().print(table)


def _mark(row: dict[str, Any]) -> str:
    parts = []
    if row["acknowledged"]:
        ack = row["acknowledged"]
        parts.append(f"seen by {ack['author'] or 'somebody'}" + (f": {ack['note']}" if ack["note"] else ""))
    if row["silence"]:
        until = datetime.fromtimestamp(row["silence"]["expires"]).strftime("%Y-%m-%d %H:%M")
        parts.append(f"silenced until {until}")
    return "; ".join(parts)
