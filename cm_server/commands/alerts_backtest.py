"""``concept-monitor alerts backtest``: history through exactly the live rules."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cm_server.commands.server import PLACES, RULES, rule_book
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.rules.book import EXPECT, LayerSettings, RuleBook, watches
from cm_server.rules.history import read_history
from cm_server.rules.replay import Event, Sample, replay

OPTIONS = (
    PLACES[0],
    RULES,
    Option("run", str, "", "replay this run of the store instead of a file", metavar="ID"),
    Option("layer", str, "", "only this layer, whatever the rules say", metavar="NAME"),
    Option("planned_steps", int, 0, "the run's planned length in steps; 0: unknown", minimum=0),
    Option("expect", str, "", "what d_anchor should do, instead of what the rules say", metavar="{fall,any,rise}"),
    Option("verbose", bool, False, "list pending and recovering too"),
    Option("json", bool, False, "print JSON"),
)
_DESCRIPTION = """Replays history through exactly the rules that the server applies, and lists what it would have said.

FILE is a CSV with the columns step and d_anchor, one row a snapshot, oldest first. Known besides: layer, fingerprint,
epoch, time (seconds), chance, ideal, units, live, nonfinite, interpretable, and units per category (color, object …).
With chance and ideal the thresholds are shares of that scale, as on the server; without, of d_anchor at step 0.

A line, or an entry of "alerts" in JSON, is an alert that begins to fire (or fires again, more severely), is resolved,
or has ended with the data. "index" is the row's number from 0. "severity" is that of the news: that an alert is over is
"info". Exit code: 0, whatever is found."""


def run(arguments: Sequence[str]) -> int:
    """Prints one line per transition."""
    parser = parser_for("concept-monitor alerts backtest", _DESCRIPTION, OPTIONS)
    parser.add_argument("file", metavar="FILE", nargs="?", help="CSV file with the columns step,d_anchor")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "backtest")
    if bool(flags.file) == bool(values["run"]):
        raise ConfigError("give either a CSV file or --run ID")
    if values["expect"] not in ("", *EXPECT):
        raise ConfigError(f"--expect is {values['expect']!r}: choose one of {', '.join(EXPECT)}")
    book = rule_book(flags, values)
    events = _stored(book, values) if values["run"] else _from_file(book, Path(flags.file), values)
    listed = [event for event in sorted(events, key=lambda e: e.index) if values["verbose"] or event.transition.told]
    if values["json"]:
        print(json.dumps({"alerts": [_row(event) for event in listed]}, indent=2))
    else:
        print("\n".join(map(_line, listed)) or "nothing to report: no rule would have spoken")
    return 0


def _from_file(book: RuleBook, path: Path, values: Mapping[str, Any]) -> Iterator[Event]:
    history = read_history(path)
    for layer in _chosen(list(history), book.settings().layers, values):
        settings = _settings(book.settings(layer=layer), values)
        yield from replay(history[layer], settings, values["planned_steps"] or None)


def _stored(book: RuleBook, values: Mapping[str, Any]) -> Iterator[Event]:
    from cm_server.run_watch import by_kind, reference_of
    from cm_server.stores.reader import StoreReader

    reader, run = StoreReader(Path(values["store"])), values["run"]
    info = reader.run(run)
    if info is None:
        known = ", ".join(row.run for row in reader.runs()[:5]) or "none"
        raise ConfigError(f"--run is {run!r}: the store {values['store']} has no such run (newest: {known})")
    series = reader.series(run)
    for layer in _chosen(list(series), book.settings(run, info.name).layers, values):
        settings = _settings(book.settings(run, info.name, layer), values)
        reference = reference_of(reader, settings.reference, layer) if settings.reference else {}
        settings = replace(settings, about=replace(settings.about, reference=reference))
        over = info.state in ("finished", "failed")
        for points in by_kind(series[layer]).values():
            samples = (Sample(i, p.step, p.summary, p.committed_at) for i, p in enumerate(points))
            yield from replay(samples, settings, values["planned_steps"] or info.planned_steps, ended=over)
    reader.close()


def _chosen(layers: Sequence[str], watched: tuple[str, ...], values: Mapping[str, Any]) -> list[str]:
    named = values["layer"]
    if named and named not in layers:
        raise ConfigError(f"--layer is {named!r}: there are {', '.join(layers)}")
    return [layer for layer in layers if layer == named or (not named and watches(watched, layer, layers[-1]))]


def _settings(settings: LayerSettings, values: Mapping[str, Any]) -> LayerSettings:
    if not values["expect"]:
        return settings
    return replace(settings, about=replace(settings.about, expect=values["expect"]))


def _row(event: Event) -> dict[str, Any]:
    change = event.transition
    value = change.finding.value
    return {
        "rule": change.rule,
        "state": change.state,
        "severity": change.loudness,
        "step": change.step,
        "index": event.index,
        "value": value if math.isfinite(value) else None,
        "message": change.finding.message,
    }


def _line(event: Event) -> str:
    change = event.transition
    head = f"row {event.index:>5}  step {change.step:>8,}  {change.loudness:<7}  {change.rule} {change.state}"
    return f"{head}: {change.finding.message}" if change.state == "firing" else head
