"""What of a run is exported, and its rows per neuron as every format takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_server.report import LayerReport, RunInfo
from cm_server.stores.reader import StoreReader


class ExportError(ValueError):
    """The export cannot be made; the message names value and cure."""


@dataclass(frozen=True)
class Selection:
    """A run, some of its layers, and the steps whose neurons are wanted.

    Attributes:
        reader: the store.
        info: the run.
        words: its concept words.
        layers: in the network's order.
        steps: by layer, those whose arrays are stored.
    """

    reader: StoreReader
    info: RunInfo
    words: Sequence[str]
    layers: Sequence[str]
    steps: dict[str, list[int]]

    @property
    def count(self) -> int:
        """How many reports that are."""
        return sum(map(len, self.steps.values()))

    def reports(self) -> Iterator[tuple[int, str, LayerReport]]:
        """Step, layer and report, layer by layer; of several snapshots at one step the last."""
        for layer in self.layers:
            for step in self.steps[layer]:
                found = self.reader.report(self.info.run, layer, step)
                if found is not None:
                    yield found[0].step, layer, found[1]


def select(reader: StoreReader, run: str, layers: Sequence[str], step: str) -> Selection:
    """Chooses what to export.

    Args:
        reader: the store.
        run: a run that is there.
        layers: module paths; all if empty.
        step: ``newest``, ``all``, ``none``, or a number: the last snapshot not after it.

    Raises:
        ExportError: a layer or step that the run does not have.
    """
    info = reader.run(run)
    assert info is not None  # the caller looked
    known = [layer for layer, _ in reader.layers(run)]
    for layer in layers:
        if layer not in known:
            raise ExportError(f"run {run!r} has no layer {layer!r}: it has {', '.join(known) or 'none yet'}")
    chosen = [layer for layer in known if not layers or layer in layers]
    series = reader.series(run)
    held = {layer: sorted({point.step for point in series.get(layer, []) if point.units}) for layer in chosen}
    steps = {layer: _steps(there, step) for layer, there in held.items()}
    if step != "none" and not any(steps.values()):
        first = min((min(there) for there in held.values() if there), default=None)
        told = "none is stored" if first is None else f"the first whose neurons are stored is of step {first}"
        raise ExportError(f"run {run!r} has no snapshot at step {step}: {told}")
    words = reader.words(info.concept_fingerprint)[0] if info.concept_fingerprint else ()
    return Selection(reader, info, words, chosen, steps)


def _steps(there: list[int], wanted: str) -> list[int]:
    if wanted in ("all", "none"):
        return there if wanted == "all" else []
    if wanted == "newest":
        return there[-1:]
    if not (wanted.isascii() and wanted.isdigit()):
        raise ExportError(f"--step is {wanted!r}: give newest, all, or a number")
    return [step for step in there if step <= int(wanted)][-1:]


def columns(report: LayerReport, words: Sequence[str]) -> dict[str, Any]:
    """One layer's neurons by column, M values each: lists where a value is a text or a list, else numpy arrays.

    ``concept`` and ``similarity`` are the best of ``concepts`` and ``similarities``; a dead neuron has no concept.
    """
    arrays = report.arrays
    live = arrays.live.astype(bool)
    units = len(live)
    named = [[words[c] for c in row if c >= 0] if on else [] for row, on in zip(arrays.concepts, live, strict=True)]
    similarities = [row[: len(names)].tolist() for row, names in zip(arrays.similarities, named, strict=True)]
    nothing = np.full(units, np.nan, dtype=np.float32)
    tau = np.full(units, report.summary.tau, dtype=np.float32) if arrays.tau is None else arrays.tau
    return {
        "unit": np.arange(units, dtype=np.int32),
        "live": live,
        "interpretable": report.interpretable,
        "concept": [names[0] if names else "" for names in named],
        "similarity": np.where(live, arrays.similarities[:, 0], np.nan).astype(np.float32),
        "concepts": named,
        "similarities": similarities,
        "margin": np.where(live, arrays.margin, np.nan).astype(np.float32),
        "tau": tau.astype(np.float32),
        "stability": nothing if arrays.stability is None else arrays.stability.astype(np.float32),
        "x": arrays.positions[:, 0],
        "y": arrays.positions[:, 1],
        "shift": arrays.shift,
        "samples": [row[row >= 0].tolist() for row in arrays.samples],
        "activations": [v[s >= 0].tolist() for v, s in zip(arrays.activations, arrays.samples, strict=True)],
        "description": list(report.descriptions) or [""] * units,
    }
