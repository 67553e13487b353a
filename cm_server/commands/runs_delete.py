"""``concept-monitor runs delete RUN …``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cm_server.commands.run_orders import ProgressLine, carry_out, confirmed, known_run
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable
from cm_server.stores.overview import RunLine, run_lines
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs delete"
_DESCRIPTION = """Deletes runs: snapshots, curves, logged quantities, alerts, and the files that only they used.

There is no way back but a backup (concept-monitor runs backup). A run whose training is connected is left alone."""


def run(arguments: Sequence[str]) -> int:
    """Returns 0 where all were deleted, 1 where some were left alone or the answer was no."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", nargs="+", help="run ids, as `concept-monitor runs` lists them")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    store = Path(values["store"])
    with closing(StoreReader(store)) as reader:
        runs = list(dict.fromkeys(known_run(reader, one) for one in flags.run))
        lines = [line for line in run_lines(reader) if line.info.run in runs]
    if not confirmed(_question(lines), flags.yes):
        return 1
    show = ProgressLine()
    done = carry_out(store, {"do": "delete", "runs": runs}, show)
    show.close()
    if values["json"]:
        print(json.dumps({"runs": runs, "freed": done["freed"], "problems": done["problems"]}))
    else:
        print(f"deleted {len(runs) - len(done['problems'])} of {len(runs)} runs, {readable(done['freed'])} freed")
        print("\n".join(done["problems"]), end="\n" if done["problems"] else "")
    return 1 if done["problems"] else 0


def _question(lines: Sequence[RunLine]) -> str:
    shown = ", ".join(f"{line.info.run} ({line.info.name})" for line in lines[:5])
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    snapshots, size = sum(line.snapshots for line in lines), sum(line.size for line in lines)
    return f"Delete {shown}{more}: {snapshots} snapshots, {readable(size)}?"
