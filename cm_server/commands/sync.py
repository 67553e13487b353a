"""``concept-monitor sync``: send what training processes left in the disk spool."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cm_client.keys import Keys, told_keys
from cm_client.leftovers import PATIENCE, Outcome, upload
from cm_client.spool_folders import default_root, find
from cm_server.config import DEFAULT_INGEST, KEY, ConfigError, Option, parser_for, resolve

OPTIONS = (
    Option("server", str, DEFAULT_INGEST, "the server's address for training processes", metavar="URL"),
    KEY,
    Option("patience", float, PATIENCE, "seconds without any progress after which to give up", minimum=1),
    Option("json", bool, False, "print JSON instead of lines"),
)
_DESCRIPTION = """Sends what training processes left in the disk spool: captures, scalars and the run's end.

What the server acknowledges leaves the spool, the rest stays: interrupt it and run it again as you like, also twice at
once. Processes that are alive send for themselves and are left alone."""


def run(arguments: Sequence[str]) -> int:
    """Sends every spool in the given folders; exit code 1 where something is still there."""
    parser = parser_for("concept-monitor sync", _DESCRIPTION, OPTIONS)
    folders_help = "a spool folder, a run's folder in it, or one process's (CM_SPOOL, else the user's state folder)"
    parser.add_argument("folders", nargs="*", metavar="DIR", help=folders_help)
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "sync")
    spools = list(dict.fromkeys(spool for folder in _folders(flags.folders) for spool in find(folder)))
    keys = told_keys(values["key"], {})
    outcomes = list(_sent(spools, values["server"], keys, values["patience"], values["json"]))
    if values["json"]:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    elif not spools:
        print("nothing to send: no process left anything in the spool")
    return 1 if any(outcome.state in ("kept", "damaged") for outcome in outcomes) else 0


def _folders(named: Sequence[str]) -> list[Path]:
    told = os.environ.get("CM_SPOOL", "")
    if not named:
        return [Path(told).expanduser() if told not in ("", "off") else default_root(os.environ)]
    for name in named:
        if not Path(name).is_dir():
            raise ConfigError(f"DIR is {name!r}: no such folder; give the spool's, or leave it out")
    return [Path(name) for name in named]


def _sent(spools: Sequence[Path], server: str, keys: Keys | None, patience: float, quiet: bool) -> Iterator[Outcome]:
    for number, spool in enumerate(spools, 1):
        with _bar(f"{spool.parent.name} ({number} of {len(spools)})", quiet) as progress:
            outcome = upload(spool, server, patience, progress, keys)
        if not quiet:
            print(sentence(outcome), flush=True)
        yield outcome


@contextmanager
def _bar(title: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal, if rich is installed (the client alone does not bring it)."""
    if quiet or not sys.stderr.isatty() or find_spec("rich") is None:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def sentence(outcome: Outcome) -> str:
    """One line for people.

    >>> sentence(Outcome("/s/r/e", "r", "e", "sent", captures=3, rows=40))
    'r: sent 3 captures and 40 scalar rows; nothing is left'
    """
    if outcome.state == "in use":
        return f"{outcome.run}: left alone, {outcome.reason}"
    if outcome.state == "damaged":
        return f"{outcome.run}: {outcome.reason}"
    parts = [f"sent {outcome.captures} captures and {outcome.rows} scalar rows"]
    if outcome.dropped:
        parts.append(f"{outcome.dropped} captures were lost before and show as gaps")
    if outcome.torn:
        parts.append(f"{outcome.torn} bytes of a torn tail were cut")
    if outcome.state == "kept":
        left = f"{outcome.captures_left} captures and {outcome.rows_left} scalar rows"
        parts.append(f"{left} stay in {outcome.directory}: {outcome.reason}")
    else:
        parts.append(f"nothing is left{': ' + outcome.reason if outcome.reason else ''}")
    return f"{outcome.run}: {'; '.join(parts)}"
