"""``concept-monitor runs evolution RUN``: what a run's units learned and forgot between two steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cm_server.commands.server import PLACES
from cm_server.config import ConfigError, Option, parser_for, resolve
from cm_server.core.evolution import Evolution, Moment, approach, class_concepts, evolution, frequent_concepts
from cm_server.report import LayerReport, SnapshotInfo
from cm_server.stores.reader import StoreReader

SHOWN = 8
OPTIONS = (
    PLACES[0],
    Option("from", int, 0, "compare from the last snapshot not after this step", minimum=0, metavar="STEP"),
    Option("to", int, -1, "… to the last one not after this step; -1: the newest", metavar="STEP"),
    Option("layer", str, "", "module path; default: the run's deepest layer"),
    Option("anchor", str, "", "a word: which units came nearer to it, and which moved away (loads the run's encoder)"),
    Option("json", bool, False, "print JSON instead of text"),
)
_DESCRIPTION = "Says what changed in a layer between two snapshots, and what the run speaks of most."


def run(arguments: Sequence[str]) -> int:
    """Compares two snapshots of a run."""
    parser = parser_for("concept-monitor runs evolution", _DESCRIPTION, OPTIONS)
    parser.add_argument("run", metavar="RUN", help="run id, as `concept-monitor runs` lists it")
    flags = parser.parse_args(list(arguments))
    values = resolve(OPTIONS, flags, "runs")
    reader = StoreReader(Path(values["store"]))
    try:
        found = describe(reader, flags.run, values["layer"], values["from"], values["to"], values["anchor"])
    finally:
        reader.close()
    print(json.dumps(found, indent=2) if values["json"] else _text(found))
    return 0


def describe(reader: StoreReader, run: str, layer: str, start: int, stop: int, anchor: str = "") -> dict[str, Any]:
    """What changed, in words and numbers, ready for JSON.

    Args:
        reader: the store.
        run: run id.
        layer: module path; empty: the deepest.
        start, stop: steps; a negative ``stop`` is the newest.
        anchor: a word, or empty.

    Raises:
        ConfigError: no such run, layer or snapshot, or the snapshots cannot be compared.
    """
    layer = _layer(reader, run, layer)
    first = _report(reader, run, layer, start)
    last = _report(reader, run, layer, None if stop < 0 else stop)
    if first[1].summary.fingerprint != last[1].summary.fingerprint:
        raise ConfigError(
            f"snapshots of step {first[0].step} and {last[0].step} have other fingerprints (encoder, words, probe set, "
            "detector or T): choose two of one process of the run"
        )
    info = reader.run(run)
    assert info is not None  # its layers were found
    words = reader.words(info.concept_fingerprint)[0]
    before, after = moment(first[1]), moment(last[1])
    found = _changes(evolution(before, after), words) | {
        "run": run,
        "layer": layer,
        "from": first[0].step,
        "to": last[0].step,
        "interpretable": [first[1].summary.interpretable, last[1].summary.interpretable],
        "d_anchor": [_finite(first[1].summary.d_anchor), _finite(last[1].summary.d_anchor)],
        "units": [_unit(unit, *pair, words) for unit, pair in enumerate(class_concepts(before, after)) if any(pair)],
        "frequent": [[words[concept], mean] for concept, mean in _frequent(reader, run, layer)],
    }
    return found | (_nearness(before, after, anchor, info.encoder) if anchor else {})


def moment(report: LayerReport) -> Moment:
    """A stored report as `core.evolution` wants it."""
    return Moment(report.arrays.embeddings, report.arrays.concepts, report.interpretable)


def _layer(reader: StoreReader, run: str, layer: str) -> str:
    names = [name for name, _ in reader.layers(run)]
    if not names:
        raise ConfigError(f"no run {run!r} with a capture in this store: `concept-monitor runs` lists what there is")
    if layer and layer not in names:
        raise ConfigError(f"run {run!r} has no layer {layer!r}: choose one of {', '.join(names)}")
    return layer or names[-1]


def _report(reader: StoreReader, run: str, layer: str, step: int | None) -> tuple[SnapshotInfo, LayerReport]:
    found = reader.report(run, layer, step)
    if found is None:
        raise ConfigError(f"run {run!r} has no snapshot of {layer} at or before step {step}: give a later step")
    return found


def _changes(found: Evolution, words: Sequence[str]) -> dict[str, Any]:
    moved = found.shift[np.isfinite(found.shift)]
    return {
        "median_shift": float(np.median(moved)) if len(moved) else None,
        "flips": [[f.unit, words[f.before], words[f.after], round(f.shift, 4)] for f in found.flips],
        "became_interpretable": found.became.tolist(),
        "no_longer_interpretable": found.ceased.tolist(),
        "concepts_gained": [words[c] for c in found.gained],
        "concepts_lost": [words[c] for c in found.lost],
    }


def _unit(unit: int, gained: Sequence[int], lost: Sequence[int], words: Sequence[str]) -> dict[str, Any]:
    return {"unit": unit, "gained": [words[c] for c in gained], "lost": [words[c] for c in lost]}


def _frequent(reader: StoreReader, run: str, layer: str) -> list[tuple[int, float]]:
    reports = (reader.report(run, layer, snapshot.step) for snapshot in reader.snapshots(run))
    held = {found[0].sequence: found[1] for found in reports if found is not None}  # arrays that were given up: once
    return frequent_concepts((moment(report) for report in held.values()), SHOWN)


def _nearness(before: Moment, after: Moment, anchor: str, encoder: str) -> dict[str, Any]:
    from cm_server.encoders import make_encoder

    place = make_encoder(encoder).encode_text([anchor])[0].numpy()
    nearer = approach(before, after, place)
    order = np.argsort(-np.nan_to_num(nearer), kind="stable")
    row = [[int(unit), round(float(nearer[unit]), 4)] for unit in order if np.isfinite(nearer[unit])]
    came, left = [r for r in row if r[1] > 0], [r for r in reversed(row) if r[1] < 0]
    return {"anchor": anchor, "approached": came[:SHOWN], "departed": left[:SHOWN]}


def _finite(value: float) -> float | None:
    return value if value == value else None


def _text(found: dict[str, Any]) -> str:
    before, after = ("-" if value is None else f"{value:.4f}" for value in found["d_anchor"])
    shift = found["median_shift"]
    lines = [
        f"{found['run']} {found['layer']}, step {found['from']} to {found['to']}",
        f"  d_anchor {before} → {after} (lower is more diverse), interpretable units "
        f"{found['interpretable'][0]} → {found['interpretable'][1]}"
        + ("" if shift is None else f", median shift {shift:.4f}"),
        f"  became interpretable: {_some(found['became_interpretable'])}",
        f"  no longer:            {_some(found['no_longer_interpretable'])}",
        f"  concepts gained:      {_some(found['concepts_gained'])}",
        f"  concepts lost:        {_some(found['concepts_lost'])}",
        f"  flips:                {_some([f'{u}: {old} → {new}' for u, old, new, _ in found['flips']])}",
        f"  most frequent:        {_some([f'{word} ({mean:.1f})' for word, mean in found['frequent']])}",
    ]
    if "anchor" in found:
        for key, label in (("approached", "came nearer to"), ("departed", "moved away from")):
            moved = [f"{unit} ({by:+.3f})" for unit, by in found[key]]
            lines.append(f"  {label} {found['anchor']!r}: {_some(moved)}")
    return "\n".join(lines)


def _some(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:SHOWN]) or "none"
    return shown + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")
