"""``concept-monitor alerts silence add|list|remove``."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from cm_server.commands.alert_orders import carry_out, user
from cm_server.commands.server import PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.duration import in_words, seconds_of
from cm_server.notices import MATCHED, Silence
from cm_server.stores.delivery_reader import DeliveryReader
from cm_server.stores.reader import StoreReader

_PROGRAM = "concept-monitor alerts silence"
OPTIONS = (PLACES[0], Option("json", bool, False, "print JSON"))
_USAGE = """usage: concept-monitor alerts silence add|list|remove [options]

  add     keep matching alerts from being sent for a while: --run, --rule, --layer, --severity, --for 2h
  list    silences in force
  remove  end a silence: remove ID

They are still found, listed and shown in the dashboard. Options also come from CM_… variables; add --help says more."""


def run(arguments: Sequence[str]) -> int:
    """Adds, lists or removes silences.

    Raises:
        ConfigError: there is no such subcommand.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if arguments else 2
    subcommands: dict[str, Callable[[list[str]], int]] = {"add": _add, "list": _list, "remove": _remove}
    name, *rest = arguments
    if name.lower() not in subcommands:
        raise ConfigError(f"no subcommand {name!r}: choose one of {', '.join(subcommands)}")
    return subcommands[name.lower()](rest)


def _add(arguments: list[str]) -> int:
    description = "Keeps alerts that match everything given from being sent for a while."
    parser = parser_for(f"{_PROGRAM} add", description, OPTIONS)
    for name in MATCHED:
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"only this {name}; * and ? stand for anything")
    parser.add_argument("--for", dest="seconds", metavar="TIME", default="2h", help="30m, 2h (the default), 1d …")
    parser.add_argument("--note", metavar="TEXT", default="", help="why")
    parser.add_argument("--author", metavar="NAME", default=user(), help="who wants it; default: you")
    flags = parser.parse_args(arguments)
    values = resolve(OPTIONS, flags, _PROGRAM)
    matchers = {name: getattr(flags, name) for name in MATCHED if getattr(flags, name)}
    if not matchers:
        raise ConfigError(f"nothing to silence: give one or more of {', '.join('--' + name for name in MATCHED)}")
    try:
        seconds = seconds_of(flags.seconds)
    except ValueError as error:
        raise ConfigError(f"--for is {error}") from None
    command = {"do": "silence", "id": uuid.uuid4().hex[:8], "matchers": matchers, "seconds": seconds}
    command |= {"author": flags.author, "note": flags.note}
    done = carry_out(Path(values["store"]), command)
    if values["json"]:
        print(json.dumps(done, indent=2))
    else:
        print(f"silence {done['id']} for {in_words(seconds)}: {_matched(matchers)}")
    return 0


def _list(arguments: list[str]) -> int:
    flags = parser_for(f"{_PROGRAM} list", "Silences in force.", OPTIONS).parse_args(arguments)
    values = resolve(OPTIONS, flags, _PROGRAM)
    reader = StoreReader(Path(values["store"]))
    silences = DeliveryReader(reader.connection).silences(time.time())
    reader.close()
    if values["json"]:
        print(json.dumps([asdict(silence) for silence in silences], indent=2))
    elif not silences:
        print("no silence is in force")
    else:
        print("\n".join(_line(silence) for silence in silences))
    return 0


def _remove(arguments: list[str]) -> int:
    parser = parser_for(f"{_PROGRAM} remove", "Ends a silence.", OPTIONS)
    parser.add_argument("id", metavar="ID", help="as `silence list` shows it")
    flags = parser.parse_args(arguments)
    values = resolve(OPTIONS, flags, _PROGRAM)
    done = carry_out(Path(values["store"]), {"do": "unsilence", "id": flags.id})
    print(json.dumps(done, indent=2) if values["json"] else f"silence {done['id']} is over")
    return 0


def _line(silence: Silence) -> str:
    until = datetime.fromtimestamp(silence.expires).strftime("%Y-%m-%d %H:%M")
    why = f" ({silence.note})" if silence.note else ""
    return f"{silence.id}  until {until}, {silence.author or 'somebody'}{why}: {_matched(silence.matchers)}"


def _matched(matchers) -> str:
    return ", ".join(f"{name} {pattern}" for name, pattern in matchers.items())
