"""``concept-monitor runs tag RUN [TAG …]``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.run_orders import carry_out
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs tag"
_DESCRIPTION = """Adds words to a run, or takes them off; without any it shows them.

A run with the tag "keep" loses nothing to retention, nor to `runs prune` unless that names it."""


def run(arguments: Sequence[str]) -> int:
    """Changes one run's tags."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    parser.add_argument("add", metavar="TAG", nargs="*", help="words to add")
    parser.add_argument("--remove", metavar="TAG", action="append", default=[], help="a word to take off; repeatable")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    command = {"do": "tag", "run": flags.run, "add": flags.add, "remove": flags.remove}
    done = carry_out(Path(values["store"]), command)
    print(json.dumps(done) if values["json"] else f"{done['run']}: {', '.join(done['tags']) or 'no tags'}")
    return 0
