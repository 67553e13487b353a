"""A neuron to keep: ``/neuron.json`` (all that its page shows) and ``/neuron.csv`` (its history, a row per snapshot).

The address names run, layer, unit and step as the page's own does. Everything is read from the store, nothing thinned.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

import numpy as np
from fastapi import FastAPI, Response

from cm_server.report import ConceptMap, LayerReport, SnapshotInfo, Trail
from cm_server.stores.errors import StoreError
from dashboard import nearness
from dashboard.data import RunData, Source

COLUMNS = ("step", "concept", "category", "similarity", "shift", "x", "y")


def serve(source: Source, server: FastAPI) -> None:
    """Adds both routes to the web server."""

    @server.get("/neuron.csv", include_in_schema=False)
    def as_csv(run: str = "", layer: str = "", unit: int = -1, step: int | None = None) -> Response:
        found = _found(source, run, layer, unit, step)
        if isinstance(found, Response):
            return found
        data, layout, _, _, trail = found
        return _kept(history_csv(trail, layout), "text/csv", _name(data, layer, unit, step, "csv"))

    @server.get("/neuron.json", include_in_schema=False)
    def as_json(run: str = "", layer: str = "", unit: int = -1, step: int | None = None) -> Response:
        found = _found(source, run, layer, unit, step)
        if isinstance(found, Response):
            return found
        data, layout, snapshot, report, trail = found
        text = json.dumps(described(data, layout, snapshot, report, unit, trail), indent=1, allow_nan=False)
        return _kept(text, "application/json", _name(data, layer, unit, step, "json"))


def history(trail: Trail, layout: ConceptMap) -> list[dict[str, Any]]:
    """One row per snapshot, by step; None where there is no number, as for a dead unit."""
    return [
        {
            "step": int(step),
            "concept": layout.words[c] if c >= 0 else None,
            "category": (layout.categories[c] or None) if c >= 0 else None,
            "similarity": _plain(similarity) if c >= 0 else None,
            "shift": _plain(shift),
            "x": _plain(place[0]),
            "y": _plain(place[1]),
        }
        for step, c, similarity, shift, place in zip(
            trail.steps, trail.concepts.tolist(), trail.similarities, trail.shift, trail.positions, strict=True
        )
    ]


def history_csv(trail: Trail, layout: ConceptMap) -> str:
    """The history as CSV (RFC 4180); a missing number is an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in history(trail, layout))
    return buffer.getvalue()


def described(
    data: RunData, layout: ConceptMap, snapshot: SnapshotInfo, report: LayerReport, unit: int, trail: Trail
) -> dict[str, Any]:
    """All that the neuron's page shows, as plain JSON values, with what must stand beside the numbers."""
    arrays, summary, info = report.arrays, report.summary, data.info
    live = bool(arrays.live[unit])
    null = float(arrays.similarities[unit, 0]) - float(arrays.margin[unit])
    top = [
        {"concept": layout.words[c], "category": layout.categories[c] or None, "similarity": _plain(s)}
        | {"margin": _plain(float(s) - null)}
        for c, s in zip(arrays.concepts[unit].tolist(), arrays.similarities[unit], strict=True)
        if live and c >= 0
    ]
    images = [
        {"sample": int(sample), "activation": _plain(value)}
        for sample, value in zip(arrays.samples[unit], arrays.activations[unit], strict=True)
        if live and sample >= 0
    ]
    anchors = nearness.anchor_distances(data.anchors, arrays.embeddings, None, unit)
    return {
        "run": info.run,
        "name": info.name,
        "layer": summary.layer,
        "unit": unit,
        "step": snapshot.step,
        "captured_at": snapshot.captured_at,
        "encoder": info.encoder,
        "detector": info.detector,
        "T": _plain(summary.temperature),
        "N": summary.probes,
        "K": summary.concepts,
        "M": summary.units,
        "fingerprint": summary.fingerprint,
        "live": live,
        "interpretable": bool(report.interpretable[unit]),
        "tau": _plain(summary.tau if arrays.tau is None else arrays.tau[unit]),
        "description": report.descriptions[unit] if unit < len(report.descriptions) else "",
        "concepts": top,
        "images": images,
        "probe_fingerprint": summary.images or snapshot.probe_fingerprint or info.probe_fingerprint,
        "nearest": [{"unit": n.unit, "distance": _plain(n.distance)} for n in nearness.neighbours(report, unit)],
        "anchors": [
            {"word": a.anchor.word, "wish": a.anchor.wish, "distance": _plain(a.distance), "rank": a.rank}
            for a in anchors
        ],
        "history": history(trail, layout),
    }


def _found(
    source: Source, run: str, layer: str, unit: int, step: int | None
) -> tuple[RunData, ConceptMap, SnapshotInfo, LayerReport, Trail] | Response:
    data = source.run(run)
    if data is None:
        return _absent(f"no run {run!r}")
    chosen = data.layer(layer or None)
    try:
        report = source.report(data, chosen, step) if chosen and layer in ("", chosen) else None
        layout, trail = source.concept_map(data), source.trail(data, chosen or "", unit, step)
    except StoreError as error:
        return _absent(f"this snapshot cannot be read: {error}")
    if report is None or layout is None or trail is None:
        return _absent(f"no neuron {layer}:{unit} in run {run!r}")
    return data, layout, *report, trail


def _absent(reason: str) -> Response:
    return Response(reason, status_code=404, media_type="text/plain")


def _kept(text: str, kind: str, name: str) -> Response:
    return Response(
        text,
        media_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def _name(data: RunData, layer: str, unit: int, step: int | None, ending: str) -> str:
    parts = [data.info.run, layer or "layer", str(unit), *([] if step is None else [f"step{step}"])]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)) + f".{ending}"


def _plain(value: float | np.floating | None) -> float | None:
    """A number as JSON has it; None for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.6g}")
