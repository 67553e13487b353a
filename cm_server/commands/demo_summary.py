"""What a run came to: the demo's summary, from the store alone."""

from __future__ import annotations

import math
from typing import Any

from cm_server.report import LayerReport
from cm_server.stores.reader import StoreReader

BEST_NEURONS = 10


def summarise(reader: StoreReader, run: str) -> dict[str, Any]:
    """The figures of a run.

    Args:
        reader: the store.
        run: run id.

    Returns:
        JSON values: per layer d_anchor from … to …, interpretable units by category; best neurons; alerts; drops.
    """
    info = reader.run(run)
    if info is None:
        return {"run": run, "state": "missing", "layers": [], "best_neurons": [], "alerts": []}
    series = reader.series(run)
    words = reader.words(info.concept_fingerprint)[0] if info.concept_fingerprint else ()
    snapshots = reader.snapshots(run)
    return {
        "run": run,
        "state": info.state,
        "activity": info.activity,
        "encoder": info.encoder,
        "detector": info.detector,
        "probe_images": info.probes,
        "probe_source": info.probe_source,
        "concepts": len(words),
        "snapshots": len(snapshots),
        "latency_seconds": _latency(snapshots),
        "layers": [_layer(name, points) for name, points in series.items() if points],
        "best_neurons": _best_neurons(reader, run, list(series), words),
        "alerts": [
            {k: getattr(alert, k) for k in ("rule", "layer", "severity", "state", "step", "message")}
            for alert in reversed(reader.alerts(run))
        ],
        "gaps": len(reader.gaps(run)),
        "client": dict(info.stats),
    }


def _layer(name: str, points: list) -> dict[str, Any]:
    first, last = points[0].summary, points[-1].summary
    scale = last.chance - last.ideal
    return {
        "layer": name,
        "d_anchor_first": _number(first.d_anchor),
        "d_anchor_last": _number(last.d_anchor),
        "won": _number((first.d_anchor - last.d_anchor) / scale) if scale > 0 else None,
        "ideal": _number(last.ideal),
        "chance": _number(last.chance),
        "temperature": last.temperature,
        "units": last.units,
        "live": last.live,
        "interpretable": last.interpretable,
        "categories": dict(last.categories),
        "distinct": last.distinct,
    }


def _best_neurons(reader: StoreReader, run: str, layers: list[str], words: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for layer in layers:
        report = reader.report(run, layer)
        if report is not None:
            found += _neurons(layer, report[1], words)
    best: dict[str, dict[str, Any]] = {}
    for neuron in sorted(found, key=lambda neuron: neuron["margin"]):
        best[neuron["concept"]] = neuron  # one per concept: the clearest comes last
    return sorted(best.values(), key=lambda neuron: -neuron["margin"])[:BEST_NEURONS]


def _neurons(layer: str, report: LayerReport, words: tuple[str, ...]) -> list[dict[str, Any]]:
    arrays = report.arrays
    return [
        {
            "neuron": f"{layer}:{unit}",
            "concept": words[arrays.concepts[unit, 0]],
            "similarity": round(float(arrays.similarities[unit, 0]), 4),
            "margin": round(float(arrays.margin[unit]), 4),
        }
        for unit in arrays.live.nonzero()[0].tolist()
    ]


def _latency(snapshots: list) -> float | None:
    """Median seconds from a capture's last byte to its commit."""
    waits = sorted(snapshot.committed_at - snapshot.received_at for snapshot in snapshots)
    return round(waits[len(waits) // 2], 3) if waits else None


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def summary_text(summary: dict[str, Any]) -> str:
    """The summary as people read it."""
    training = summary.get("training") or {}
    lines = [
        "",
        f"{summary['run']}: {_state(summary)}",
        f"  pictures     {training.get('source', '-')}",
        f"  training     {training.get('steps', '-')} steps, learning rate {training.get('lr', '-')}, "
        f"test accuracy {_percent(training.get('test_accuracy'))}",
        f"  measured by  {summary.get('encoder', '-')} · {summary.get('detector', '-')} · "
        f"{summary.get('probe_images', 0)} probe images · {summary.get('concepts', 0)} words",
        "",
        "  d_anchor (lower is more diverse)",
        *[_layer_line(layer) for layer in summary["layers"]],
        "",
        "  interpretable units at the end",
        *[_category_line(layer) for layer in summary["layers"]],
        "",
        "  best-described neurons (one per concept)",
        *[
            f"    {n['neuron']:<14} {n['concept']:<20} similarity {n['similarity']:.2f}"
            for n in summary["best_neurons"]
        ],
        "",
        "  alerts",
        *([_alert_line(alert) for alert in summary["alerts"]] or ["    none"]),
        "",
        *_client_lines(summary),
    ]
    return "\n".join(lines)


def _state(summary: dict[str, Any]) -> str:
    if summary["state"] == "finished":
        return "finished"
    doing = summary.get("activity") or "nothing"
    return f"{summary['state']}; the analysis did not come to its end (doing: {doing}), the figures below are partial"


def _layer_line(layer: dict[str, Any]) -> str:
    first, last = (_fixed(layer[key]) for key in ("d_anchor_first", "d_anchor_last"))
    won = "" if layer["won"] is None else f"   {layer['won']:+.0%} of the way from chance to one word per unit"
    return f"    {layer['layer']:<10} from {first} to {last}{won}"


def _category_line(layer: dict[str, Any]) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in sorted(layer["categories"].items(), key=lambda c: -c[1]))
    return f"    {layer['layer']:<10} {layer['interpretable']:>4} of {layer['units']:<5} {parts}"


def _alert_line(alert: dict[str, Any]) -> str:
    return f"    {alert['severity']:<8} {alert['rule']} at step {alert['step']} ({alert['state']}): {alert['message']}"


def _client_lines(summary: dict[str, Any]) -> list[str]:
    client = summary.get("client", {})
    overhead = client.get("overhead_share")
    sent, dropped = client.get("captures_sent", 0), client.get("captures_dropped", 0)
    share = "unknown" if overhead is None else f"{overhead:.1%} of the training time"
    return [
        f"  client       {share} for {sent} captures, {dropped} dropped; {summary.get('gaps', 0)} gaps "
        "(the demo captures often; watch's own schedule keeps to 1 %)",
        f"  latency      {summary.get('latency_seconds')} s from a capture's last byte to its snapshot (median)",
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _fixed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
