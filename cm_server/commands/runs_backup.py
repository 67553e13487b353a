"""``concept-monitor runs backup DIR``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cm_server.commands.run_orders import CopyLine
from cm_server.commands.server import PLACES
from cm_server.config import Option, parser_for, resolve
from cm_server.sizes import readable
from cm_server.stores.backup import back_up

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs backup"
_DESCRIPTION = """Copies the whole store into a new folder, also while a server writes it: all that was committed when
the copy began is in it. A backup is a store: concept-monitor dashboard --store DIR opens it. backup.json holds a
checksum of every file, which `runs restore` checks."""


def run(arguments: Sequence[str]) -> int:
    """Makes a backup."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("folder", metavar="DIR", help="a folder that does not exist yet")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    show = CopyLine()
    try:
        done = back_up(Path(values["store"]), Path(flags.folder), show)
    finally:
        show.close()
    if values["json"]:
        print(json.dumps({"folder": flags.folder, "files": done.files, "bytes": done.size, "runs": done.runs}))
    else:
        print(f"{done.runs} runs, {done.files} files, {readable(done.size)} in {flags.folder}")
    return 0
