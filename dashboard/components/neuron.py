"""The neuron card: what one unit responds to, how sure that is, and how it came there."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np
from dash import dcc, html

from cm_server.report import ConceptMap, LayerReport, RunInfo, Trail
from dashboard import images
from dashboard import theme as look
from dashboard import view as where
from dashboard.components.aria import aria
from dashboard.components.summary import number
from dashboard.view import View

BEST = 10
"""Best-described neurons listed while none is selected."""
CHANGES = 6
"""Concepts named in the ribbon."""

TIED = 0.03
"""Best concepts whose similarities differ by less than this share are told to be read together."""


def neuron_card(
    here: View, info: RunInfo, words: ConceptMap, report: LayerReport, trail: Trail | None, step: int
) -> list:
    """The selected unit's card; without a selection, the layer's best-described neurons as links."""
    if here.unit is None:
        return _nothing_selected(here, words, report)
    name = f"{report.summary.layer}:{here.unit}"
    if here.unit >= len(report.arrays.live):
        return [_heading(name, here), html.P(f"{report.summary.layer} has neurons 0 to {len(report.arrays.live) - 1}.")]
    if not report.arrays.live[here.unit]:
        sentence = f"Dead at step {step:,}: its activation is the same for every image, so it has no concept."
        return [_heading(name, here), html.P(sentence, className="quiet")]
    return [
        _heading(name, here),
        *concept_facts(here.unit, words, report),
        *description(here.unit, report),
        top_concepts(here.unit, words, report),
        *images_of(here.unit, info, report),
        *journey(trail, words),
    ]


def best_units(report: LayerReport, count: int = BEST) -> list[int]:
    """Live units with the largest margin over the null, best first."""
    margin = np.where(report.arrays.live, report.arrays.margin, -np.inf)
    order = np.argsort(-np.nan_to_num(margin, nan=-np.inf, neginf=-np.inf), kind="stable")
    return [int(unit) for unit in order[:count] if np.isfinite(margin[unit])]


def _nothing_selected(here: View, words: ConceptMap, report: LayerReport) -> list:
    rows = []
    for unit in best_units(report):
        target = View(here.run, here.page, report.summary.layer, here.step, unit)
        concept = int(report.arrays.concepts[unit, 0])
        rows.append(
            html.Li(
                [
                    dcc.Link(f"{report.summary.layer}:{unit}", href=where.url(target), className="code"),
                    category(words.categories[concept], words.words[concept]),
                    html.Span(number(float(report.arrays.similarities[unit, 0])), className="value"),
                ]
            )
        )
    return [
        html.H2("Neuron"),
        html.P(
            "Click a neuron on the map, type its number above it, or begin with the best described:", className="quiet"
        ),
        html.Ol(rows, className="best") if rows else html.P("No live neuron in this layer.", className="quiet"),
    ]


def _heading(name: str, here: View):
    close = where.url(replace(here, unit=None))
    own = where.url(replace(here, page="neuron", layer=name.rpartition(":")[0]))
    return html.Div(
        [
            html.H2(dcc.Link(name, href=own, title="All about this neuron"), className="code"),
            dcc.Link("✕", href=close, className="close", title="Close (Esc)"),
        ],
        className="card-head",
    )


def concept_facts(unit: int, words: ConceptMap, report: LayerReport) -> list:
    arrays, summary = report.arrays, report.summary
    concept, similarity = int(arrays.concepts[unit, 0]), float(arrays.similarities[unit, 0])
    clear = bool(report.interpretable[unit])
    tau = number(summary.tau if arrays.tau is None else float(arrays.tau[unit]))
    verdict = f"above τ {tau}" if clear else f"below τ {tau}: not interpretable, only its best guess"
    facts = [
        ("similarity", number(similarity), verdict),
        (
            "margin",
            f"{float(arrays.margin[unit]):+.3f}".replace("-", "−"),
            "over the 95th percentile of shuffled images",
        ),
    ]
    if arrays.stability is not None:
        share = f"{100 * float(arrays.stability[unit]):.0f} %"
        facts.append(("stability", share, "of resampled probe sets give the same best concept"))
    return [
        html.Div(
            [
                html.Span(words.words[concept], className="word" if clear else "word unclear"),
                category(words.categories[concept]),
            ],
            className="concept",
        ),
        html.Dl([x for name, value, note in facts for x in _fact(name, value, note)], className="facts"),
    ]


def description(unit: int, report: LayerReport) -> list:
    """The detector's sentence or formula, where it gives one."""
    text = report.descriptions[unit] if unit < len(report.descriptions) else ""
    return [html.P(text, className="description")] if text else []


def _fact(name: str, value: str, note: str) -> list:
    return [html.Dt(name), html.Dd([html.B(value), html.Span(note, className="note")])]


def category(name: str, text: str | None = None):
    shown = look.category_of(name)
    glyph = html.Span(look.GLYPHS[shown], className=f"glyph cat-{shown}", **aria(hidden="true"))
    return html.Span([glyph, " ", text or shown], className="category", title=shown)


def top_concepts(unit: int, words: ConceptMap, report: LayerReport):
    values = [float(v) for v in report.arrays.similarities[unit]]
    largest = max([abs(v) for v in values if np.isfinite(v)], default=1.0) or 1.0
    rows = []
    for concept, value in zip(report.arrays.concepts[unit], values, strict=True):
        if concept < 0 or not np.isfinite(value):
            continue
        share = max(0.0, value / largest)
        category = look.category_of(words.categories[int(concept)])
        bar = html.Span(className=f"bar cat-{category}", style={"width": f"{100 * share:.1f}%"})
        label = html.Span(words.words[int(concept)], className="label")
        rows.append(html.Li([label, html.Span(bar, className="track"), html.Span(number(value), className="value")]))
    tied = sum(v > largest - TIED * largest for v in values if np.isfinite(v))
    note = f"The first {tied} are within {TIED:.0%} of each other: read them together." if tied > 1 else ""
    return html.Div(
        [html.H3(f"Top {len(rows)} concepts"), html.Ol(rows, className="top"), html.P(note, className="quiet")]
    )


def images_of(unit: int, info: RunInfo, report: LayerReport) -> list:
    arrays = report.arrays
    shown = [(int(s), float(a)) for s, a in zip(arrays.samples[unit], arrays.activations[unit], strict=True) if s >= 0]
    stream = report.summary.kind == "stream"
    which, name = (report.summary.images, "training image") if stream else (info.probe_fingerprint, "probe image")
    if not shown or not which:
        return []
    tiles = [
        html.Figure(
            [
                html.Img(
                    src=images.address(which, sample),
                    alt=f"{name} {sample}, activation {activation:.3g}",
                    title=f"{name} {sample}",
                ),
                html.Figcaption(f"{activation:.3g}"),
            ]
        )
        for sample, activation in shown
    ]
    return [html.H3(f"Highest-activating {name}s, with activation"), html.Div(tiles, className="images")]


def journey(trail: Trail | None, words: ConceptMap) -> list:
    if trail is None or len(trail.steps) < 2:
        return []
    ribbon = [concept for concept, _ in groupby(c for c in trail.concepts.tolist() if c >= 0)]
    named = [words.words[c] for c in ribbon[-CHANGES:]]
    arrow = ("… → " if len(ribbon) > CHANGES else "") + " → ".join(named)
    way = float(np.nansum(trail.shift))
    times = {0: "never changed", 1: "changed once", 2: "changed twice"}.get(
        len(ribbon) - 1, f"changed {len(ribbon) - 1} times"
    )
    sentence = f"Over {len(trail.steps)} snapshots u moved {way:.2f} in all; the best concept {times}."
    return [html.H3("Trail"), html.P(sentence), html.P(arrow, className="ribbon") if len(ribbon) > 1 else None]
