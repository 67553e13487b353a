"""``concept-monitor alerts test [CHANNEL]``: a test alert through the channels, now, and what they said."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from cm_server.commands.server import ALLOW_COMMANDS
from cm_server.config import ConfigError, Option, parser_for, read_file, resolve
from cm_server.notices import FIRING, Item, Notice
from cm_server.notifiers.base import Channel, DeliveryError
from cm_server.notifiers.settings import NotifySettings, load
from cm_server.report import Alert

_PROGRAM = "concept-monitor alerts test"
OPTIONS = (ALLOW_COMMANDS, Option("json", bool, False, "print JSON"))
_DESCRIPTION = "Sends a test alert through the channels of the TOML file, once, and prints what each of them said."


def run(arguments: Sequence[str]) -> int:
    """Tries out one channel or all; exit code 1 if one of them failed."""
    parser = parser_for(_PROGRAM, _DESCRIPTION, OPTIONS)
    parser.add_argument("channel", metavar="CHANNEL", nargs="?", help="KIND.NAME, as in the file; default: all")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, _PROGRAM)
    file, content = read_file(flags)
    settings = load(file, content, allow_commands=values["allow_commands"])
    results = [_try(channel, settings) for channel in _wanted(settings, flags.channel, file)]
    if values["json"]:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            mark = "ok    " if result["delivered"] else "failed"
            print(f"{mark} {result['channel']} ({result['seconds']:.1f} s): {result['said']}")
    return 0 if all(result["delivered"] for result in results) else 1


def _wanted(settings: NotifySettings, name: str | None, file: str) -> list[Channel]:
    names = [channel.name for channel in settings.channels]
    if not names:
        raise ConfigError(f"{file} has no channels: add for example a table [notify.slack.team] with url_env")
    if name is not None and name not in names:
        raise ConfigError(f"CHANNEL is {name!r}: choose one of {', '.join(names)}")
    return [channel for channel in settings.channels if name in (None, channel.name)]


def _try(channel: Channel, settings: NotifySettings) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        said, delivered = channel.send(test_notice(channel.name), settings.attempt_seconds), True
    except DeliveryError as error:
        said, delivered = str(error), False
    seconds = round(time.monotonic() - begun, 3)
    return {"channel": channel.name, "delivered": delivered, "said": settings.redact(said), "seconds": seconds}


def test_notice(channel: str) -> Notice:
    """A notice that says of itself that it is a test."""
    now = time.time()
    words = f"This is a test of channel {channel}. Nothing is wrong; alerts about your runs will look like this."
    alert = Alert(0, "test", "layer4", "TestAlert", "warning", "firing", 0, now, now, 0.85, words, {"test": True})
    return Notice(uuid.uuid4().hex, channel, "test", now, (Item(alert, FIRING),))
