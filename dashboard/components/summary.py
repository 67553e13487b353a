"""The numbers behind each chart, in words and as a table: what a screen reader gets, and what one quotes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from dash import html

from cm_server.report import ConceptMap, LayerReport, LayerSummary, Scalars, SeriesPoint
from dashboard.figures.categories import counts
from dashboard.figures.concept_map import UNCLEAR, groups
from dashboard.figures.decimate import SHOWN
from dashboard.theme import CATEGORIES, OTHER


def d_anchor_table(series: Mapping[str, Sequence[SeriesPoint]], shown: Mapping[str, SeriesPoint], focus: str | None):
    """Per layer: d_anchor at the start and now, its change, and what stands beside it.

    The start is the first value with the same fingerprint as the shown one; others are not comparable.
    """
    head = ["layer", "units", "d_anchor", "start", "change", "won", "baseline", "coverage", "distinct"]
    titles = {
        "units": "M, with the live ones if some are dead",
        "d_anchor": "lower is more diverse; compare a layer only with itself",
        "start": "the first comparable value, before training if it was captured",
        "won": "share of the way from chance to one word per neuron that was won since the start",
        "baseline": "d_anchor of a single unit at the mean of all words",
        "coverage": "share of anchors with a unit nearer than that mean",
        "distinct": "different best concepts among the interpretable units",
    }
    rows = [_layer_row(layer, series[layer], point, layer == focus) for layer, point in shown.items()]
    return html.Table(
        [
            html.Thead(html.Tr([html.Th(name, title=titles.get(name, ""), scope="col") for name in head])),
            html.Tbody(rows),
        ],
        className="numbers",
    )


def start_of(points: Sequence[SeriesPoint], shown: SeriesPoint) -> SeriesPoint:
    """The first point that may be compared with ``shown``: the same fingerprint without a break between them."""
    before = [p for p in points if p.step <= shown.step]
    first = shown
    for point in reversed(before):
        if point.summary.fingerprint != shown.summary.fingerprint:
            break
        first = point
    return first


def change(start: float, now: float) -> str:
    """The change in per cent of the start, with its sign; a dash where there is none.

    >>> change(0.8, 0.76)
    '−5.0 %'
    """
    if not (math.isfinite(start) and math.isfinite(now)) or start == 0:
        return "–"
    return f"{100 * (now - start) / start:+.1f} %".replace("-", "−")


def won(start: LayerSummary, now: LayerSummary) -> str:
    """How much of the scale from chance to one word per neuron was won since the start; a dash where unknown."""
    share = (start.d_anchor - now.d_anchor) / (now.chance - now.ideal) if now.chance > now.ideal else math.nan
    return f"{100 * share:+.0f} %".replace("-", "−") if math.isfinite(share) else "–"


def number(value: float, digits: int = 3) -> str:
    """A number with fixed decimals; a dash for NaN."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def categories_table(summaries: Mapping[str, LayerSummary]):
    """The categories chart as numbers: units per layer and category, and the threshold in force."""
    names = [
        name for name in (*CATEGORIES, OTHER) if name != OTHER or any(counts(s)[OTHER] for s in summaries.values())
    ]
    head = [
        html.Th("layer", scope="col"),
        *[html.Th(name, scope="col", title=f"units whose best concept is a {name}") for name in names],
    ]
    rows = []
    for layer, summary in summaries.items():
        found = counts(summary)
        cells = [html.Td(f"{found[name]:,}") for name in names] + [html.Td(number(summary.tau))]
        rows.append(html.Tr([html.Th(layer, scope="row", className="code"), *cells]))
    tau = html.Th(
        "τ",
        scope="col",
        title="a unit is interpretable if its best similarity is above its τ; shown is the median over units",
    )
    return html.Table([html.Thead(html.Tr([*head, tau])), html.Tbody(rows)], className="numbers")


def scalars_sentence(logged: Mapping[str, Scalars], step: int | None, drawn: int) -> str:
    """The logged quantities in words: their values at ``step`` or now."""
    if not logged:
        return "Nothing logged yet. monitor.log(loss=…, accuracy=…) in the training loop draws its curves here."
    parts = []
    for name, one in logged.items():
        upto = one.values if step is None else one.values[one.steps <= step]
        parts.append(f"{name} {_value(upto)}")
    more = f" · {len(logged) - drawn} more logged, not drawn" if len(logged) > drawn else ""
    return " · ".join(parts) + more


def overhead_sentence(stats: Mapping[str, object]) -> str:
    """What watching costs the training, by the client's own measure; empty while it has told nothing.

    >>> overhead_sentence({"overhead_share": 0.0081, "budget": 0.01, "seconds": 600.0})
    'The monitor takes 0.81 % of the training time so far (budget 1 %).'
    """
    share, seconds, budget = (_plain(stats.get(name)) for name in ("overhead_share", "seconds", "budget"))
    if share is None or seconds is None:
        return ""
    planned = "captures at fixed steps" if budget is None else f"budget {100 * budget:g} %"
    said = f"The monitor takes {_per_cent(share)} of the training time so far ({planned})."
    if budget is not None and share > budget:
        return f"{said} What is above it is paid back before the next capture."
    return said


def _plain(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]


def _per_cent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def shown_instead(asked: int, shown: int) -> str:
    """Says so where the neurons shown are of an earlier snapshot than the clock's: retention gave up those of its own.

    >>> shown_instead(70, 70)
    ''
    """
    if asked == shown:
        return ""
    return f"The neurons of step {asked:,} were given up to save space; these are of step {shown:,}. "


def map_sentence(layout: ConceptMap, report: LayerReport) -> str:
    """The map in words."""
    summary, arrays = report.summary, report.arrays
    unclear = len(groups(layout, report)[UNCLEAR])
    dead = int((~np.asarray(arrays.live, dtype=bool)).sum())
    if summary.interpretable == 0:
        return nearest_miss(layout, report)
    found = [f"{len(arrays.live) - dead:,} neurons among {len(layout.anchors):,} anchor stars"]
    found.append(
        f"{unclear:,} not interpretable (below their τ, typically {number(summary.tau)})"
        if unclear
        else "all interpretable"
    )
    found += [f"{dead:,} dead, not drawn"] if dead else []
    found += [_sampled(len(arrays.live) - dead)]
    return (
        "; ".join(part for part in found if part)
        + f". Placed by {layout.method}; only nearness has meaning, the axes have none."
    )


def _sampled(live: int) -> str:
    """That a crowded map shows a sample, and which."""
    if live <= SHOWN:
        return ""
    return f"{SHOWN:,} of them drawn: the selected one, all that lie alone, and a steady sample of the crowd"


def nearest_miss(layout: ConceptMap, report: LayerReport) -> str:
    """What to say where no unit is interpretable: how near the best one came."""
    arrays = report.arrays
    live = np.flatnonzero(arrays.live)
    if not len(live):
        return "Every unit of this layer is dead: its activation is the same for all images."
    thresholds = np.full(len(arrays.live), report.summary.tau) if arrays.tau is None else arrays.tau
    best = int(live[np.argmax(arrays.similarities[live, 0] - thresholds[live])])
    tau = number(float(thresholds[best]))
    word = layout.words[int(arrays.concepts[best, 0])]
    value = number(float(arrays.similarities[best, 0]))
    return f"No unit is interpretable: the nearest miss is neuron {best}, “{word}” at {value}, below τ {tau}."


def _layer_row(layer: str, points: Sequence[SeriesPoint], point: SeriesPoint, focused: bool):
    now, start = point.summary, start_of(points, point).summary
    dead = now.units - now.live
    cells = [
        f"{now.units:,}" + (f" ({dead:,} dead)" if dead else ""),
        html.B(number(now.d_anchor, 4)),
        number(start.d_anchor, 4),
        html.Span(change(start.d_anchor, now.d_anchor), className=_direction(start.d_anchor, now.d_anchor)),
        won(start, now),
        number(now.centroid_baseline, 4),
        f"{100 * now.coverage:.0f} %" if math.isfinite(now.coverage) else "–",
        f"{now.distinct:,}",
    ]
    name = html.Th(layer, scope="row", className="code")
    return html.Tr([name, *[html.Td(cell) for cell in cells]], className="focused" if focused else "")


def _direction(start: float, now: float) -> str:
    if not (math.isfinite(start) and math.isfinite(now)) or abs(now - start) < 1e-4:
        return ""
    return "better" if now < start else "worse"


def _value(values: np.ndarray) -> str:
    if not len(values):
        return "–"
    return f"{values[-1]:.4g}" if math.isfinite(values[-1]) else "not finite"
