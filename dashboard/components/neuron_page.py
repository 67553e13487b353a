"""The neuron page's parts: what one unit responds to, how sure that is, what it was before, and what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlencode

import numpy as np
from dash import dcc, html

from cm_server.report import ConceptMap, Gap, LayerReport, RunInfo, SnapshotInfo, Trail
from dashboard import view as where
from dashboard.components.aria import aria, data
from dashboard.components.neuron import TIED, best_units, category, concept_facts, description, images_of
from dashboard.components.summary import number
from dashboard.figures.anchor_stars import GLYPHS
from dashboard.figures.ribbon import spans
from dashboard.nearness import AnchorDistance, Near
from dashboard.view import View

NO_ANCHORS = (
    "No anchor is added to this run yet. Type any word on the Concepts page, wanted or unwanted: its distance from "
    "this neuron stands here then."
)
OTHER_SPACE = "The run's added anchors were placed by another encoder, so no distance to them can be taken."
NO_TRAIL = "There is one snapshot so far; the way begins with the second."


def neuron_name(layer: str, unit: int) -> str:
    """How a neuron is called everywhere: ``layer4:373``."""
    return f"{layer}:{unit}"


def choose(here: View, words: ConceptMap, report: LayerReport) -> list:
    """No neuron is chosen: how to choose one, and the layer's best described ones to begin with."""
    rows = []
    for unit in best_units(report, 24):
        concept = int(report.arrays.concepts[unit, 0])
        name = neuron_name(report.summary.layer, unit)
        target = replace(here, layer=report.summary.layer, unit=unit)
        rows.append(
            html.Li(
                [
                    dcc.Link(name, href=where.url(target), className="code"),
                    category(words.categories[concept], words.words[concept]),
                    html.Span(f"{float(report.arrays.margin[unit]):+.3f}".replace("-", "−"), className="value"),
                ]
            )
        )
    nothing = "Every neuron of this layer is dead at this step: its activation is the same for all images."
    return [
        html.H1("Choose a neuron", className="page-title"),
        html.P("Type its number, click it on the map, or press ⌘K or Ctrl K and type a word.", className="quiet"),
        html.H2("Best described at this step, with the margin over the null"),
        html.Ol(rows, className="best in-columns") if rows else html.P(nothing),
    ]


def heading(here: View, words: ConceptMap, report: LayerReport) -> list:
    """The neuron's name, its concept and how sure that is; for a dead or absent one, why there is none."""
    unit, layer, units = here.unit or 0, report.summary.layer, len(report.arrays.live)
    title = html.H1(neuron_name(layer, unit), className="code page-title")
    if unit >= units:
        return [title, html.P(f"{layer} has neurons 0 to {units - 1}. Type one of these numbers.", className="verdict")]
    if not report.arrays.live[unit]:
        return [title, html.P(dead_sentence(unit), className="verdict")]
    return [title, *concept_facts(unit, words, report), *description(unit, report)]


def dead_sentence(unit: int) -> str:
    """Why a dead unit has no concept."""
    return (
        f"Neuron {unit} is dead at this step: its activation is the same for every probe image, so it has no concept. "
        "Its past may have had one: see the ribbon, or move the clock."
    )


def tools(here: View, step: int, units: int) -> list:
    """Before, after, pin, the permanent link, and what can be saved."""
    unit = here.unit or 0
    pinned = unit in here.track
    fixed = replace(here, step=step, track=())
    about = {"run": here.run or "", "layer": here.layer or "", "unit": unit, "step": step}
    query = urlencode(about)
    return [
        _step("‹", "The neuron before", replace(here, unit=unit - 1), unit > 0),
        _step("›", "The neuron after", replace(here, unit=unit + 1), unit + 1 < units),
        html.Button(
            "Unpin" if pinned else "Pin",
            className="small-button",
            title="Keep this neuron at hand, here and on the map",
            **data(toggle="track", value=str(unit)),
            **aria(pressed=str(pinned).lower()),
        ),
        html.Button(
            "Copy link",
            className="small-button",
            title=f"A permanent link to this neuron at step {step:,}",
            **data(link=where.url(fixed)),
        ),
        dcc.Link("On the map", href=where.url(replace(here, page="map")), className="small-button"),
        html.A("CSV", href=f"/neuron.csv?{query}", className="small-button", download="", title="Its history as CSV"),
        html.A("JSON", href=f"/neuron.json?{query}", className="small-button", download="", title="All of it as JSON"),
    ]


def pins(here: View, words: ConceptMap, report: LayerReport) -> list:
    """The pinned neurons of this layer as links, with their concepts."""
    if not here.track:
        return []
    links = [html.Span("pinned", className="key")]
    for unit in here.track:
        if unit >= len(report.arrays.live):
            continue
        concept = int(report.arrays.concepts[unit, 0])
        word = words.words[concept] if report.arrays.live[unit] and concept >= 0 else "dead"
        now = {"aria-current": "true"} if unit == here.unit else {}
        target = where.url(replace(here, unit=unit))
        name = [html.Span(str(unit), className="code"), f" {word}"]
        links.append(html.Span(dcc.Link(name, href=target), className="pin", **now))
    return links


def concepts_table(unit: int, words: ConceptMap, report: LayerReport) -> list:
    """The top concepts, each with its similarity and its margin over the null."""
    arrays = report.arrays
    best = float(arrays.similarities[unit, 0])
    null = best - float(arrays.margin[unit])
    values = [float(v) for v in arrays.similarities[unit]]
    largest = max([abs(v) for v in values if np.isfinite(v)], default=1.0) or 1.0
    rows = []
    for concept, value in zip(arrays.concepts[unit].tolist(), values, strict=True):
        if concept < 0 or not np.isfinite(value):
            continue
        shown = category(words.categories[concept], words.words[concept])
        kind = shown.title
        bar = html.Span(className=f"bar cat-{kind}", style={"width": f"{100 * max(0.0, value / largest):.1f}%"})
        rows.append(
            html.Tr(
                [
                    html.Th(shown, scope="row"),
                    html.Td(html.Span(bar, className="track"), className="wide"),
                    html.Td(number(value)),
                    html.Td(f"{value - null:+.3f}".replace("-", "−"), className="" if value > null else "quiet"),
                ]
            )
        )
    head = html.Tr(
        [
            html.Th("concept", scope="col"),
            html.Th("", **aria(hidden="true")),
            html.Th("similarity", scope="col"),
            html.Th("margin", scope="col", title="over the 95th percentile of this neuron's shuffled images"),
        ]
    )
    tied = sum(v > largest - TIED * largest for v in values if np.isfinite(v))
    note = f"The first {tied} are within {TIED:.0%} of each other: read them together." if tied > 1 else ""
    return [
        html.Table([html.Thead(head), html.Tbody(rows)], className="numbers concepts-table"),
        html.P(f"The null is {number(null)}. {note}", className="summary"),
    ]


def activating(unit: int, info: RunInfo, report: LayerReport) -> list:
    """The highest-activating images, or why there are none to show."""
    found = images_of(unit, info, report)
    return found[1:] if found else [html.P("The images of this snapshot are not in the store.", className="quiet")]


def ribbon_sentence(trail: Trail | None, words: Sequence[str], gaps: Sequence[Gap] = ()) -> str:
    """The ribbon in words, with the captures that are missing from it."""
    if trail is None or len(trail.steps) < 2:
        return NO_TRAIL
    lost = sum(int(trail.steps[0]) <= gap.step <= int(trail.steps[-1]) for gap in gaps)
    missing = f" {lost:,} capture{'s' if lost > 1 else ''} in between did not arrive (hatched below)." if lost else ""
    return _told(trail, words) + missing


def _told(trail: Trail, words: Sequence[str]) -> str:
    cut = spans(trail)
    alive = [span for span in cut if span.concept >= 0]
    if not alive:
        return f"Dead in all {len(trail.steps):,} snapshots."
    longest = max(alive, key=lambda span: span.snapshots)
    words_seen = len({span.concept for span in alive})
    if len(cut) == 1:
        return f"“{words[longest.concept]}” in all {len(trail.steps):,} snapshots."
    dead = sum(span.snapshots for span in cut if span.concept < 0)
    now = f"“{words[cut[-1].concept]}” since step {cut[-1].first:,}" if cut[-1].concept >= 0 else "dead now"
    return (
        f"{len(trail.steps):,} snapshots, {words_seen} different best concept{'s' if words_seen > 1 else ''}, "
        f"{len(cut) - 1:,} changes: {now}. Longest “{words[longest.concept]}”, steps {longest.first:,} to "
        f"{longest.last:,}." + (f" Dead in {dead:,} snapshots." if dead else "")
    )


def ribbon_table(trail: Trail | None, words: Sequence[str]):
    """The ribbon's table twin: one row per span, the newest first."""
    cut = spans(trail)[::-1] if trail is not None else []
    rows = [
        html.Tr(
            [
                html.Th(words[span.concept] if span.concept >= 0 else "dead", scope="row"),
                html.Td(f"{span.first:,}"),
                html.Td(f"{span.last:,}"),
                html.Td(f"{span.snapshots:,}"),
            ]
        )
        for span in cut[:200]
    ]
    head = html.Tr([html.Th(name, scope="col") for name in ("best concept", "from step", "to step", "snapshots")])
    return html.Table([html.Thead(head), html.Tbody(rows)], className="numbers")


def way_sentence(trail: Trail | None, share: float) -> str:
    """The way on the map in words; ``share`` is how much of the map's width is shown."""
    if trail is None or len(trail.steps) < 2:
        return NO_TRAIL
    way = float(np.nansum(trail.shift))
    moved = trail.shift[np.isfinite(trail.shift)]
    largest = int(np.nanargmax(trail.shift)) if len(moved) else 0
    most = f", most at step {int(trail.steps[largest]):,} ({float(trail.shift[largest]):.2f})" if len(moved) else ""
    return (
        f"u moved {way:.2f} in all{most}. The line is stronger where it moved further. "
        f"Shown is {min(1.0, share):.0%} of the map's width; hollow is where it began, full where it is."
    )


def near_list(here: View, words: ConceptMap, report: LayerReport, near: Sequence[Near]) -> list:
    """The neurons whose u is nearest, with their concepts and distances."""
    if not near:
        return [html.P("No other neuron of this layer is alive.", className="quiet")]
    rows = []
    for one in near:
        concept = int(report.arrays.concepts[one.unit, 0])
        target = replace(here, unit=one.unit)
        rows.append(
            html.Li(
                [
                    dcc.Link(neuron_name(report.summary.layer, one.unit), href=where.url(target), className="code"),
                    category(words.categories[concept], words.words[concept]),
                    html.Span(number(one.distance), className="value"),
                ]
            )
        )
    return [html.Ol(rows, className="best"), html.P("Distance of u; lower is nearer.", className="summary")]


def anchors_table(found: Sequence[AnchorDistance], added: int) -> list:
    """Distance to each added anchor, now and at the start, and the neuron's rank among its layer."""
    if not found:
        return [html.P(OTHER_SPACE if added else NO_ANCHORS, className="quiet")]
    head = ("anchor", "distance", "start", "rank")
    rows = [
        html.Tr(
            [
                html.Th(
                    [
                        html.Span(GLYPHS[one.anchor.wish], className=f"wish-{one.anchor.wish}", **aria(hidden="true")),
                        f" {one.anchor.word}",
                    ],
                    scope="row",
                    title=f"{one.anchor.wish} anchor",
                ),
                html.Td(html.B(number(one.distance))),
                html.Td(number(one.start)),
                html.Td(f"{one.rank:,} of {one.live:,}"),
            ]
        )
        for one in found
    ]
    return [
        html.Table(
            [html.Thead(html.Tr([html.Th(name, scope="col") for name in head])), html.Tbody(rows)], className="numbers"
        ),
        html.P("Lower is nearer; rank 1 is the layer's nearest neuron.", className="summary"),
    ]


def snapshot_line(snapshot: SnapshotInfo, live: bool) -> str:
    """Which snapshot is shown."""
    return f"step {snapshot.step:,}" + ("" if live else ", past")


def _step(sign: str, title: str, target: View, possible: bool):
    if not possible:
        return html.Span(sign, className="small-button off", **aria(hidden="true"))
    return dcc.Link(sign, href=where.url(target), className="small-button", title=title)
