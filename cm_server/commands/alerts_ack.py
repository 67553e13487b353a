"""``concept-monitor alerts ack ID``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.alert_orders import carry_out, user
from cm_server.commands.server import PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve

_PROGRAM = "concept-monitor alerts ack"
OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_DESCRIPTION = "Says that somebody has seen an alert: it is not repeated. That it gets worse or is over is still told."


def run(arguments: Sequence[str]) -> int:
    """Acknowledges one alert."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("id", metavar="ID", help="the alert's number, as `alerts list` shows it")
    parser.add_argument("--note", metavar="TEXT", default="", help="what others should know")
    parser.add_argument("--author", metavar="NAME", default=user(), help="who acknowledges; default: you")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    if not (flags.id.isascii() and flags.id.isdigit() and len(flags.id) < 16):
        raise ConfigError(f"ID is {flags.id!r}: give an alert's number, as concept-monitor alerts list shows it")
    command = {"do": "ack", "alert": int(flags.id), "author": flags.author, "note": flags.note}
    done = carry_out(Path(values["store"]), command)
    if values["json"]:
        print(json.dumps(done, indent=2))
    else:
        print(f"acknowledged: {done['rule']} in {done['layer'] or 'the run'}, run {done['run']}")
    return 0
