"""``concept-monitor runs compact``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.run_orders import ProgressLine, carry_out
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs compact"
_DESCRIPTION = """Gives space back: writes array files anew where a quarter or more of one is dead, removes files that
no row speaks of, and shrinks the index. Nothing that can be seen changes, and a server may go on meanwhile."""


def run(arguments: Sequence[str]) -> int:
    """Compacts the store; 1 where something was left as it is."""
    flags = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    show = ProgressLine()
    done = carry_out(Path(values["store"]), {"do": "compact"}, show)
    show.close()
    if values["json"]:
        print(json.dumps({"freed": done["freed"], "problems": done["problems"]}))
    else:
        print("\n".join([f"{readable(done['freed'])} freed", *done["problems"]]))
    return 1 if done["problems"] else 0
