"""``concept-monitor alerts rules``: every rule's settings in force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from cm_server.commands.server import RULES, rule_book
from cm_server.config import Option, parser_for, resolve
from cm_server.rules.book import LayerSettings

OPTIONS = (
    RULES,
    Option("run", str, "", "as they are for this run's id or name", metavar="ID"),
    Option("layer", str, "", "as they are for this layer", metavar="NAME"),
    Option("json", bool, False, "print JSON"),
)
_GENERAL = ("expect", "warm_up", "warm_up_planned", "warm_up_share", "undesirable", "wanted")


def run(arguments: Sequence[str]) -> int:
    """Prints the settings, with a line of help each."""
    description = "Shows every rule's settings in force; each can be set in [alerts.RULE] of the TOML file."
    flags = parser_for("concept-monitor alerts rules", description, OPTIONS).parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "rules")
    settings = rule_book(flags, values).settings(values["run"], values["run"], values["layer"])
    print(json.dumps(_table(settings), indent=2) if values["json"] else _text(settings))
    return 0


def _general(settings: LayerSettings) -> dict[str, Any]:
    general = {name: getattr(settings.about, name) for name in _GENERAL}
    return {**general, "layers": settings.layers, "reference": settings.reference}


def _table(settings: LayerSettings) -> dict[str, Any]:
    rules = (*settings.rules, *settings.flow_rules)
    return {**_general(settings), "rules": {rule.name: asdict(rule) for rule in rules}}


def _text(settings: LayerSettings) -> str:
    lines = [f"{name} = {_toml(value)}" for name, value in _general(settings).items()]
    for rule in (*settings.rules, *settings.flow_rules):
        lines += ["", f"[{rule.name}]  # {(type(rule).__doc__ or '').splitlines()[0]}"]
        told = [(f"{f.name} = {_toml(getattr(rule, f.name))}", f.metadata["help"]) for f in fields(rule)]
        lines += [f"{setting:<32} # {text}" for setting, text in told]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
