"""``concept-monitor alerts``: replay, list, acknowledge, silence and try out alerts, a module for each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from cm_server.config import ConfigError

SUBCOMMANDS = {
    "backtest": "cm_server.commands.alerts_backtest",
    "rules": "cm_server.commands.alerts_rules",
    "list": "cm_server.commands.alerts_list",
    "ack": "cm_server.commands.alerts_ack",
    "silence": "cm_server.commands.alerts_silence",
    "test": "cm_server.commands.alerts_test",
    "dead-letters": "cm_server.commands.alerts_letters",
}
"""Where each subcommand's ``run(arguments) -> exit code`` lives; imported only when it is asked for."""

_HELP = {
    "backtest": "replay a CSV file or a stored run through the rules",
    "rules": "show every rule's settings in force",
    "list": "list alerts",
    "ack": "acknowledge an alert with a note",
    "silence": "keep alerts quiet for a while",
    "test": "send a test alert through every channel",
    "dead-letters": "list and replay what could not be delivered",
}


def run(arguments: Sequence[str]) -> int:
    """Runs one subcommand.

    Raises:
        ConfigError: there is no such subcommand.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in SUBCOMMANDS:
        raise ConfigError(f"no subcommand {name!r}: choose one of {', '.join(SUBCOMMANDS)}")
    return importlib.import_module(SUBCOMMANDS[name]).run(rest)


def _usage() -> str:
    width = max(map(len, _HELP))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in _HELP.items())
    more = "alerts COMMAND --help says more, and names each option's environment variable (CM_…)."
    return f"usage: concept-monitor alerts COMMAND [options]\n\ncommands:\n{lines}\n\n{more}"
