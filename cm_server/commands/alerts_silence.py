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

_JSON = Option("json", bool, False, "print JSON")
_MATCHERS = tuple(Option(name, str, "", f"only this {name}; * and ? stand for others", metavar="X") for name in MATCHED)
_ADD = (
    PLACES[0],
    *_MATCHERS,
    Option("for", str, "2h", "how long, for example 30m, 2h, 1d", metavar="TIME"),
    Option("note", str, "", "why", metavar="TEXT"),
    Option("author", str, "", "who wants it; default: you", metavar="NAME"),
    _JSON,
)
_PLAIN = (PLACES[0], _JSON)
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
    flags = parser_for("concept-monitor alerts silence add", description, _ADD).parse_args(arguments)
    values = resolve(_ADD, flags, "alerts")
    matchers = {name: values[name] for name in MATCHED if values[name]}
    if not matchers:
        raise ConfigError(f"nothing to silence: give one or more of {', '.join('--' + name for name in MATCHED)}")
    try:
        seconds = seconds_of(values["for"])
    except ValueError as error:
        raise ConfigError(f"--for is {error}") from None
    command = {"do": "silence", "id": uuid.uuid4().hex[:8], "matchers": matchers, "seconds": seconds}
    command |= {"author": values["author"] or user(), "note": values["note"]}
    done = carry_out(Path(values["store"]), command)
    if values["json"]:
        print(json.dumps(done, indent=2))
    else:
        print(f"silence {done['id']} for {in_words(seconds)}: {_matched(matchers)}")
    return 0


def _list(arguments: list[str]) -> int:
    flags = parser_for("concept-monitor alerts silence list", "Silences in force.", _PLAIN).parse_args(arguments)
    values = resolve(_PLAIN, flags, "alerts")
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
    parser = parser_for("concept-monitor alerts silence remove", "Ends a silence.", _PLAIN)
    parser.add_argument("id", metavar="ID", help="as `silence list` shows it")
    flags = parser.parse_args(arguments)
    values = resolve(_PLAIN, flags, "alerts")
    done = carry_out(Path(values["store"]), {"do": "unsilence", "id": flags.id})
    print(json.dumps(done, indent=2) if values["json"] else f"silence {done['id']} is over")
    return 0


def _line(silence: Silence) -> str:
    until = datetime.fromtimestamp(silence.expires).strftime("%Y-%m-%d %H:%M")
    why = f" ({silence.note})" if silence.note else ""
    return f"{silence.id}  until {until}, {silence.author or 'somebody'}{why}: {_matched(silence.matchers)}"


def _matched(matchers) -> str:
    return ", ".join(f"{name} {pattern}" for name, pattern in matchers.items())
