"""``concept-monitor runs rename RUN NAME``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.run_orders import carry_out
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs rename"
_DESCRIPTION = "Calls a run something else, for people; its id stays. A training that resumes the run keeps this name."


def run(arguments: Sequence[str]) -> int:
    """Renames one run."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    parser.add_argument("name", metavar="NAME", help='the new name; "" for what the training calls itself')
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    done = carry_out(Path(values["store"]), {"do": "rename", "run": flags.run, "title": flags.name})
    print(json.dumps(done) if values["json"] else f"{done['run']} is called {done['title'] or 'as its training says'}")
    return 0
