"""The rules' settings from TOML: for a project, for runs, for layers, each more particular table over the one before.

They stand in the table ``[alerts]`` of ``concept-monitor.toml``, or at the top of a file given by ``--rules``::

    [alerts]
    expect = "fall"                      # or "any", "rise": fine-tuning
    layers = ["deepest"]                 # or "all", or module paths with * and ?
    [alerts.ConceptStall]
    progress = 0.03
    [alerts.run."finetune-*"]            # runs whose id or name matches
    expect = "any"
    [alerts.layer."layer3"]              # layers whose path matches; also below a run
    ConceptJump.enabled = false
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

from cm_server.config import ConfigError, read_toml
from cm_server.core.watching import Circumstances
from cm_server.rules.base import RuleSettings
from cm_server.rules.catalogue import known_rules

EXPECT = ("fall", "any", "rise")
_NESTED = ("run", "layer")
_SHARED = ("expect", "warm_up", "warm_up_planned", "warm_up_share", "undesirable", "wanted")


@dataclass(frozen=True)
class _General:
    """Keys that are no rule's."""

    expect: str = "fall"
    layers: tuple[str, ...] = ("deepest",)
    warm_up: int = 25
    warm_up_planned: int = 20
    warm_up_share: float = 0.15
    undesirable: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    reference: str = ""


@dataclass(frozen=True)
class LayerSettings:
    """What is in force for one layer of one run.

    Attributes:
        rules: those that look at layers, in the order in which they are asked; disabled ones are not among them.
        flow_rules: those that look at the run's flow.
        about: the profile, without what only the run itself knows.
        layers: which layers are watched: ``deepest``, ``all``, or patterns of module paths.
        reference: id of the healthy run to compare with; empty for none.
    """

    rules: tuple[Any, ...]
    flow_rules: tuple[Any, ...]
    about: Circumstances
    layers: tuple[str, ...]
    reference: str


class RuleBook:
    """The settings of all runs and layers.

    Args:
        table: as read from TOML.
        origin: file and table, for messages.

    Raises:
        ConfigError: a key or a value is wrong; the message names the file, the key and the cure.
    """

    def __init__(self, table: Mapping[str, Any] | None = None, origin: str = "") -> None:
        self._table = dict(table or {})
        _check(self._table, f"{origin or 'rules'}:", _NESTED)

    @classmethod
    def from_file(cls, path: Path) -> RuleBook:
        """Reads a file given by ``--rules``; its ``[alerts]`` table if it has one, else the whole of it."""
        content = read_toml(path, "--rules")
        return cls(content["alerts"], f"{path}: [alerts]") if "alerts" in content else cls(content, str(path))

    def settings(self, run: str = "", name: str = "", layer: str = "") -> LayerSettings:
        """What is in force.

        Args:
            run, name: the run's id and name.
            layer: module path; empty for what the run as a whole says.
        """
        general: dict[str, Any] = {}
        tables: dict[str, dict[str, Any]] = {}
        for table in self._applying((run, name), layer):
            for key, value in table.items():
                if key in known_rules():
                    tables.setdefault(key, {}).update(value)
                elif key not in _NESTED:
                    general[key] = tuple(value) if isinstance(value, list) else value
        said = _General(**general)
        rules = [kind(**_lists(tables.get(key, {}))) for key, kind in known_rules().items()]
        shared = {name: getattr(said, name) for name in _SHARED}
        return LayerSettings(
            rules=tuple(rule for rule in rules if rule.enabled and hasattr(rule, "find")),
            flow_rules=tuple(rule for rule in rules if rule.enabled and hasattr(rule, "find_flow")),
            about=Circumstances(**shared),
            layers=said.layers,
            reference=said.reference,
        )

    def watched_words(self) -> tuple[str, ...]:
        """Every word named anywhere as undesirable or wanted."""
        lists = [table.get(key, ()) for table in _all_tables(self._table) for key in ("undesirable", "wanted")]
        return tuple(dict.fromkeys(word for words in lists for word in words))

    def _applying(self, run: tuple[str, str], layer: str) -> Iterator[Mapping[str, Any]]:
        yield self._table
        yield from _matching(self._table.get("layer", {}), layer)
        for table in _matching(self._table.get("run", {}), *run):
            yield table
            yield from _matching(table.get("layer", {}), layer)


def watches(layers: tuple[str, ...], layer: str, deepest: str) -> bool:
    """Whether a layer is watched.

    >>> watches(("deepest", "block.*"), "block.3", "head"), watches(("deepest",), "block.3", "head")
    (True, False)
    """
    return any(p == "all" or (p == "deepest" and layer == deepest) or fnmatchcase(layer, p) for p in layers)


def _matching(tables: Mapping[str, Mapping[str, Any]], *names: str) -> Iterator[Mapping[str, Any]]:
    for pattern, table in tables.items():
        if any(name and fnmatchcase(name, pattern) for name in names):
            yield table


def _all_tables(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield table
    for nested in _NESTED:
        for inner in table.get(nested, {}).values():
            yield from _all_tables(inner)


def _lists(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _check(table: Any, where: str, nested: tuple[str, ...]) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where.rstrip(':')} is {table!r}: give a table")
    general = {f.name for f in fields(_General)}
    for key, value in table.items():
        place = f"{where} {key}" if where.endswith(":") else f"{where}.{key}"
        if key in nested:
            if not isinstance(value, Mapping):
                raise ConfigError(f'{place} is {value!r}: give tables named by patterns, like [{key}."name*"]')
            for pattern, inner in value.items():
                _check(inner, f"{place}.{pattern}", ("layer",) if key == "run" else ())
        elif key in general:
            _check_value(_General, key, value, place)
        elif key in known_rules():
            _check_rule_table(known_rules()[key], value, place)
        else:
            raise ConfigError(f"{place} is unknown: {_nearest(key, [*general, *known_rules(), *nested])}")
    if table.get("expect", "fall") not in EXPECT:
        raise ConfigError(f"{where} expect is {table['expect']!r}: choose one of {', '.join(EXPECT)}")


def _check_rule_table(rule: type[RuleSettings], table: Any, where: str) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}: give a table of settings, like {{ enabled = false }}")
    known = {f.name: f.metadata for f in fields(rule)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}.{key} is unknown: {_nearest(key, known)}")
        _check_value(rule, key, value, f"{where}.{key}")
        low, high = known[key].get("low"), known[key].get("high")
        if low is not None and value < low:
            raise ConfigError(f"{where}.{key} is {value!r}: give {low:g} or more")
        if high is not None and value > high:
            raise ConfigError(f"{where}.{key} is {value!r}: give {high:g} or less")


def _check_value(owner: type, key: str, value: Any, where: str) -> None:
    kind = get_type_hints(owner)[key]
    fits, wanted = {
        bool: (isinstance(value, bool), "true or false"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (isinstance(value, (int, float)) and not isinstance(value, bool) and value == value, "a number"),
        str: (isinstance(value, str), "a text"),
    }.get(kind, (isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of texts"))
    if not fits:
        raise ConfigError(f"{where} is {value!r}: give {wanted}")


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
