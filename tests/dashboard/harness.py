"""What the dashboard's tests share: where the checkout is, and small pieces of data."""

from __future__ import annotations

import os
from pathlib import Path

from cm_server.report import Alert, LayerSummary, SeriesPoint

ROOT = Path(__file__).resolve().parents[2]
SMALL = (("layer1", 24), ("layer2", 40))


def environment() -> dict[str, str]:
    """The environment of a child process: this checkout first, none of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CM_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def summary(layer="layer1", d=0.8, fingerprint="f", found=None, units=64, interpretable=None):
    found = found or {}
    count = sum(found.values()) if interpretable is None else interpretable
    return LayerSummary(
        layer, units, units, d, 0.9, 0.5, 3, 0.7, 9.0, count, 0.1, 0.1, 0.05, 256, 100, 100, found, fingerprint
    )


def alert(step, severity="warning", layer="layer1"):
    return Alert(1, "r1", layer, "ConceptRise", severity, "firing", step, 0.0, 0.0, 0.8, "it rises", {})


def series(values, fingerprints=None, layer="layer1", steps=None):
    marks = fingerprints or ["f"] * len(values)
    steps = steps or [10 * i for i in range(len(values))]
    return [
        SeriesPoint(i + 1, s, float(i), summary(layer, d, f))
        for i, (s, d, f) in enumerate(zip(steps, values, marks, strict=True))
    ]
