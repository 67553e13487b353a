"""``concept-monitor runs``: the runs in a store, and what can be done to them; a module for each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from cm_server.config import ConfigError

SUBCOMMANDS = {
    "list": ("cm_server.commands.runs_list", "list the runs, newest first (what `runs` alone does)"),
    "show": ("cm_server.commands.runs_show", "all about one run"),
    "evolution": ("cm_server.commands.evolution", "what a run's units learned and forgot between two steps"),
    "export": ("cm_server.commands.runs_export", "write a run as CSV, Parquet, JSON lines or TensorBoard event files"),
    "rename": ("cm_server.commands.runs_rename", "call a run something else"),
    "tag": ("cm_server.commands.runs_tag", "add words to a run, or take them off"),
    "delete": ("cm_server.commands.runs_delete", "delete runs and free their space"),
    "prune": ("cm_server.commands.runs_prune", "give up the arrays of older snapshots; the curves stay"),
    "verify": ("cm_server.commands.runs_verify", "compare everything with its checksums"),
    "compact": ("cm_server.commands.runs_compact", "give space back that nothing uses any more"),
    "backup": ("cm_server.commands.runs_backup", "copy the store, also while a server writes it"),
    "restore": ("cm_server.commands.runs_restore", "check a backup and put it in place"),
}
"""Where each subcommand's ``run(arguments) -> exit code`` lives, imported only when asked for; and what it does."""


def run(arguments: Sequence[str]) -> int:
    """Runs one subcommand; without one it lists the runs.

    Raises:
        ConfigError: there is no such subcommand.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0][:1] != "-" else ("list", arguments)
    if name not in SUBCOMMANDS:
        raise ConfigError(f"no subcommand {name!r}: choose one of {', '.join(SUBCOMMANDS)}")
    return importlib.import_module(SUBCOMMANDS[name][0]).run(rest)


def _usage() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in SUBCOMMANDS.items())
    more = "runs COMMAND --help says more, and names each option's environment variable (CM_…)."
    return f"usage: concept-monitor runs [COMMAND] [options]\n\ncommands:\n{lines}\n\n{more}"
