"""``concept-monitor runs restore DIR``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.run_orders import CopyLine, confirmed
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable
from cm_server.stores.backup import restore

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs restore"
_DESCRIPTION = """Checks every file of a backup against its checksum and copies it to --store. A store that is there
already is only replaced with --replace, while no server runs on it, and is kept beside the new one."""


def run(arguments: Sequence[str]) -> int:
    """Restores a backup; 1 where the answer was no."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("backup", metavar="DIR", help="folder that `runs backup` made")
    parser.add_argument("--replace", action="store_true", help="put it in the place of the store that is there")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    store = Path(values["store"])
    if flags.replace and store.exists() and not confirmed(f"Put {flags.backup} in the place of {store}?", flags.yes):
        return 1
    show = CopyLine()
    try:
        done = restore(Path(flags.backup), store, flags.replace, show)
    finally:
        show.close()
    if values["json"]:
        about = {"store": str(store), "files": done.files, "bytes": done.size, "runs": done.runs, "kept": done.kept}
        print(json.dumps(about))
    else:
        print(f"{done.runs} runs, {readable(done.size)} in {store}")
        if done.kept:
            print(f"what was there is in {done.kept}")
    return 0
