"""The Evolution page in words and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dash import dcc, html

from cm_server.report import LayerReport, LayerSummary, SeriesPoint
from dashboard.components.summary import number
from dashboard.figures.approach import Approach
from dashboard.figures.categories import counts
from dashboard.figures.evolution import chosen
from dashboard.recomputed import Progress, Temperatures
from dashboard.theme import CATEGORIES, OTHER

AGREES = 1e-3
"""Recomputed and stored d_anchor at the run's own T may differ by this much; more is said aloud."""
CHOOSE_ANCHORS = (
    "Type one or more words, wanted or unwanted: their stars, the ways of the neurons nearest to them, and how far "
    "these are from them at each step."
)
IN_FORCE = "in force"
ASK = "Type temperatures above, or draw "
UNITS = 8


def categories_table(series: Mapping[str, Sequence[SeriesPoint]]):
    """The stacked bars as numbers: units per category at the steps drawn."""
    head = html.Tr([html.Th(name, scope="col") for name in ("layer", "step", *CATEGORIES, OTHER, "not interpretable")])
    rows = []
    for layer, points in series.items():
        for point in chosen(points):
            found = counts(point.summary)
            cells = [f"{found[name]:,}" for name in (*CATEGORIES, OTHER)]
            cells.append(f"{point.summary.units - point.summary.interpretable:,}")
            rows.append(
                html.Tr(
                    [
                        html.Th(layer, scope="row", className="code"),
                        html.Td(f"{point.step:,}"),
                        *[html.Td(cell) for cell in cells],
                    ]
                )
            )
    return twin(head, rows)


def twin(head: html.Tr, rows: Sequence[html.Tr]):
    """A chart's table, which its button shows."""
    return html.Table([html.Thead(head), html.Tbody(list(rows))], className="numbers")


def default_taus(report: LayerReport) -> tuple[float, ...]:
    """Thresholds to begin with: round numbers spread over the best similarities that the layer has."""
    best = sorted(float(v) for v in report.arrays.similarities[report.arrays.live, 0] if math.isfinite(v))
    if not best:
        return ()
    places = [best[min(len(best) - 1, int(share * len(best)))] for share in (0.1, 0.35, 0.6, 0.85)]
    return tuple(dict.fromkeys(float(f"{value:.2g}") for value in places))


def thresholds_sentence(summary: LayerSummary, found: Mapping[str, Mapping[str, int]]) -> str:
    """The bars in words."""
    said = ", ".join(
        f"{sum(one.values()):,} {label if label == IN_FORCE else f'at {label}'}" for label, one in found.items()
    )
    return (
        f"Interpretable units of {summary.layer}'s {summary.units:,}: {said}. “In force” is each unit's own threshold, "
        "the larger of the server's τ and its calibrated null; the other bars take τ alone, as the paper does, so "
        "noise passes where τ is below the null."
    )


def thresholds_table(found: Mapping[str, Mapping[str, int]], units: int):
    """The bars' numbers."""
    names = [*CATEGORIES, OTHER]
    head = html.Tr([html.Th(name, scope="col") for name in ("τ", *names, "not interpretable")])
    rows = [
        html.Tr(
            [
                html.Th(label, scope="row"),
                *[html.Td(f"{one.get(name, 0):,}") for name in CATEGORIES],
                html.Td(f"{sum(n for name, n in one.items() if name not in CATEGORIES):,}"),
                html.Td(f"{units - sum(one.values()):,}"),
            ]
        )
        for label, one in found.items()
    ]
    return twin(head, rows)


def temperatures_summary(found: Temperatures, own: float, wanted: Sequence[float], offer: str) -> list:
    """What is drawn, how much is still being recomputed, and how well it agrees with what is stored.

    Args:
        found: the curves.
        own: the run's T.
        wanted: temperatures asked for.
        offer: address that asks for three temperatures around the run's.
    """
    if found.progress.missing:
        return [found.progress.missing]
    if not wanted:
        around = " and ".join(f"{t:.2g}" for t in around_own(own))
        return [ASK, dcc.Link(f"T {around}", href=offer), f" around the run's own {own:.3g}."]
    said = [f"Recomputed from the similarities that the store keeps; the run's own T is {own:.3g} (thin line: stored)."]
    if found.progress.more:
        said.insert(0, f"Recomputing: {found.progress.done:,} of {found.progress.total:,} values are there. ")
    elif math.isfinite(found.error):
        agrees = found.error <= AGREES
        check = f" Checked at the run's own T: recomputed and stored values differ by {found.error:.1g} at most"
        said.append(check + ("." if agrees else ", which is too much: do not rely on these curves."))
    return [" ".join(said)]


def around_own(own: float) -> tuple[float, ...]:
    """Temperatures worth a look beside the run's own.

    >>> around_own(0.09)
    (0.03, 0.27)
    """
    return tuple(float(f"{own * factor:.2g}") for factor in (1 / 3, 3))


def temperatures_table(found: Temperatures):
    """First and last value at each T."""
    head = html.Tr([html.Th(name, scope="col") for name in ("T", "snapshots", "first", "last", "change")])
    rows = []
    for temperature, (steps, values) in sorted(found.curves.items()):
        first, last = (values[0], values[-1]) if values else (math.nan, math.nan)
        cells = [f"{len(steps):,}", number(first, 4), number(last, 4), _signed(last - first)]
        rows.append(html.Tr([html.Th(f"{temperature:g}", scope="row"), *[html.Td(cell) for cell in cells]]))
    return twin(head, rows) if rows else []


def anchors_sentence(found: Sequence[Approach], progress: Progress, wanted: Sequence[str], missing: str = "") -> str:
    """How the neurons moved with regard to each anchor, in words."""
    if not wanted:
        return CHOOSE_ANCHORS
    said = []
    for one in found:
        if not len(one.steps):
            continue
        first, last = float(one.group[0]), float(one.group[-1])
        verb = "nearer to" if last < first else "farther from"
        said.append(f"The nearest neurons came {abs(last - first):.3f} {verb} “{one.word}” ({first:.3f} → {last:.3f}).")
    if progress.more:
        said.append(f"Reading {progress.done:,} of {progress.total:,} snapshots.")
    if missing:
        said.append(missing)
    if found:
        said.append(
            "On the map, hollow: where a neuron began, filled: where it stands. Curves: the nearest twentieth of the "
            "units; dotted: the layer's typical unit."
        )
    return " ".join(said)


def anchors_table(found: Sequence[Approach], layer: str):
    """The curves' ends, and the neurons nearest to each anchor."""
    head = html.Tr(
        [html.Th(name, scope="col") for name in ("anchor", "start", "end", "typical neuron", "nearest neurons")]
    )
    rows = [
        html.Tr(
            [
                html.Th(one.word, scope="row"),
                html.Td(number(float(one.group[0]))),
                html.Td(number(float(one.group[-1]))),
                html.Td(number(float(one.typical[-1]))),
                html.Td(", ".join(f"{layer}:{unit}" for unit in one.nearest[:UNITS])),
            ]
        )
        for one in found
        if len(one.steps)
    ]
    return twin(head, rows) if rows else []


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−") if math.isfinite(value) else "–"
