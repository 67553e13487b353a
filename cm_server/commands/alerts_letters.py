"""``concept-monitor alerts dead-letters list|replay``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cm_server.commands.alert_orders import carry_out
from cm_server.commands.server import PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.notices import DEAD, Letter
from cm_server.notifiers.message import subject
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.reader import StoreReader

_PROGRAM = "concept-monitor alerts dead-letters"
OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_USAGE = """usage: concept-monitor alerts dead-letters list|replay [options]

  list           notifications that were given up, and why
  replay ID …    try them again (--all: every one)

Options also come from CM_… variables; list --help says more."""


def run(arguments: Sequence[str]) -> int:
    """Lists or replays dead letters.

    Raises:
        ConfigError: there is no such subcommand.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    subcommands: dict[str, Callable[[list[str]], int]] = {"list": _list, "replay": _replay}
    name, *rest = arguments
    if name not in subcommands:
        raise ConfigError(f"no subcommand {name!r}: choose one of {', '.join(subcommands)}")
    return subcommands[name](rest)


def _list(arguments: list[str]) -> int:
    description = "Notifications that were given up, oldest first."
    flags = parser_for(f"{_PROGRAM} list", description, OPTIONS).parse_args(arguments)
    values = resolve(OPTIONS, flags, _PROGRAM)
    reader = StoreReader(Path(values["store"]))
    rows = [_row(letter) for letter in DeliveryReader(reader.connection).letters(DEAD)]
    reader.close()
    if values["json"]:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no dead letters: everything that was to be told has arrived, or is still being tried")
    else:
        print("\n".join(_line(row) for row in rows))
    return 0


def _replay(arguments: list[str]) -> int:
    parser = parser_for(f"{_PROGRAM} replay", "Tries dead letters again.", OPTIONS)
    parser.add_argument("ids", metavar="ID", nargs="*", help="as `list` shows it")
    parser.add_argument("--all", action="store_true", help="all of them")
    flags = parser.parse_args(arguments)
    values = resolve(OPTIONS, flags, _PROGRAM)
    if bool(flags.ids) == flags.all:
        raise ConfigError("say which: one or more ids, as dead-letters list shows them, or --all")
    done = carry_out(Path(values["store"]), {"do": "replay", "keys": flags.ids or None})
    if values["json"]:
        print(json.dumps(done, indent=2))
    else:
        print(f"{len(done['replayed'])} queued again: the server tries them now, or once it runs")
    return 0


def _row(letter: Letter) -> dict[str, Any]:
    notice = letter.notice
    return {
        "id": letter.key,
        "channel": notice.channel,
        "run": notice.run,
        "subject": subject(notice),
        "created": notice.created,
        "attempts": letter.attempts,
        "error": letter.error,
    }


def _line(row: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(row["created"]).strftime("%Y-%m-%d %H:%M")
    return (
        f"{row['id'][:8]}  {when}  {row['channel']}: {row['subject']}\n"
        f"          given up after {row['attempts']} attempts: {row['error']}"
    )
