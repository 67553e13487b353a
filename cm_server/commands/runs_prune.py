"""``concept-monitor runs prune [RUN …]``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cm_server.commands.run_orders import ProgressLine, carry_out, confirmed, known_run
from cm_server.commands.server import PLACES, retention
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.core.retention import Retention
from cm_server.keeping import KEEP_TAG
from cm_server.sizes import readable
from cm_server.stores.pruning import Doomed, doomed
from cm_server.stores.reader import StoreReader

OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_PROGRAM = "concept-monitor runs prune"
_DESCRIPTION = """Gives up the arrays of snapshots (concepts, places and images of every neuron). The curves stay whole.

  last:N    keep the newest N
  every:N   keep every Nth, counted from the run's first
  thin:N    keep the newest N, and of older ones ever fewer with age

Rules are joined by commas: a snapshot stays if any of them asks for it. The first, the newest, and those at which an
alert began always stay."""


def run(arguments: Sequence[str]) -> int:
    """Prunes runs; 1 where something could not be done or the answer was no."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", nargs="*", help=f"run ids; default: all without the tag {KEEP_TAG!r}")
    parser.add_argument("--keep", metavar="RULES", default="all", help="which snapshots keep their arrays")
    parser.add_argument("--limit", metavar="SIZE", default="", help="most bytes of arrays per run, such as 20GB")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    rules = retention(flags.keep, flags.limit, "--keep", "--limit")
    if rules.keeps_all:
        raise ConfigError("these rules keep everything: give --keep last:N, every:N or thin:N, or --limit SIZE")
    store = Path(values["store"])
    plan = _plan(store, flags.run, rules)
    if flags.dry_run:
        _print(values["json"], plan, {"freed": 0, "problems": []}, "would lose")
        return 0
    if not any(gone.sequences for gone in plan.values()):
        _print(values["json"], plan, {"freed": 0, "problems": []}, "lost")
        return 0
    if not confirmed(_question(plan), flags.yes):
        return 1
    show = ProgressLine()
    named = {"runs": list(plan)} if flags.run else {}
    done = carry_out(store, {"do": "prune", "keep": flags.keep, "limit": rules.limit} | named, show)
    show.close()
    _print(values["json"], plan, done, "lost")
    return 1 if done["problems"] else 0


def _plan(store: Path, named: Sequence[str], rules: Retention) -> dict[str, Doomed]:
    with closing(StoreReader(store)) as reader:
        runs = [known_run(reader, run) for run in named]
        runs = runs or [info.run for info in reader.runs() if KEEP_TAG not in info.tags]
        with reader.connection() as connection:
            return {run: doomed(connection, run, rules) for run in runs}


def _question(plan: Mapping[str, Doomed]) -> str:
    count, size = sum(len(gone.sequences) for gone in plan.values()), sum(gone.size for gone in plan.values())
    return f"Give up the arrays of {count} snapshots of {len(plan)} runs, {readable(size)}? There is no way back."


def _print(as_json: bool, plan: Mapping[str, Doomed], done: Mapping[str, Any], verb: str) -> None:
    if as_json:
        runs = {run: {"snapshots": len(gone.sequences), "bytes": gone.size} for run, gone in plan.items()}
        print(json.dumps({"runs": runs, "freed": done["freed"], "problems": done["problems"]}))
        return
    for run, gone in plan.items():
        if gone.sequences:
            print(f"{run}: {len(gone.sequences)} snapshots {verb} their arrays, {readable(gone.size)}")
    if not any(gone.sequences for gone in plan.values()):
        print("nothing to give up: every snapshot that is there is one that these rules keep")
    if done["freed"]:
        print(f"{readable(done['freed'])} of disk freed")
    for problem in done["problems"]:
        print(problem)
