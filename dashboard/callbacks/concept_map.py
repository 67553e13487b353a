"""The concept map's callback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import Dash, Input, Output, State, html, no_update
from dash.exceptions import PreventUpdate

from cm_server.report import ConceptMap, LayerReport, SnapshotInfo, Trail
from cm_server.stores.errors import StoreError
from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.overview import legend
from dashboard.callbacks.reply import Reply
from dashboard.components.aria import aria
from dashboard.components.neuron import neuron_card
from dashboard.components.panel import EMPTY
from dashboard.components.summary import map_sentence, shown_instead
from dashboard.components.tracked import tracked_bar
from dashboard.data import RunData, Source
from dashboard.drawn import Drawing
from dashboard.figures import anchor_stars, concept_map
from dashboard.figures.tracked import MOST_UNITS
from dashboard.theme import Theme
from dashboard.view import View

OUTPUTS = (
    Output("map-graph", "figure"),
    Output("map-summary", "children"),
    Output("map-legend", "children"),
    Output("neuron-card", "children"),
    Output("map-tracked", "children"),
    Output("unit-input", "value"),
    Output("unit-input", "max"),
    Output("map-sent", "data"),
)
NOT_FITTED = "The map of the words is being fitted. It appears here by itself; the overview needs no map."
NOT_CAPTURED = "This layer is not captured in this run. Choose another above."
DAMAGED = "This snapshot cannot be shown; others can."


def register(app: Dash, source: Source) -> None:
    """Adds the map's callback."""

    @app.callback(
        OUTPUTS,
        Input("map-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("map-sent", "data"),
    )
    def draw_map(now: dict[str, Any] | None, pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        here, reply = where.parse(pathname, search), Reply(sent, now)
        data = source.run(here.run)
        if data is None or here.page != "map":
            raise PreventUpdate
        webgl = (now or {}).get("webgl", True)
        return (*_draw(here, data, look.theme(theme), source, reply, webgl), reply.sent())


def _empty(reply: Reply, sentence: str) -> tuple:
    card = html.P(sentence, className="quiet")
    return (reply.figure("map", dict(EMPTY)), sentence, no_update, card, [], no_update, no_update)


def _draw(here: View, data: RunData, theme: Theme, source: Source, reply: Reply, webgl: bool) -> tuple:
    layer = data.layer(here.layer)
    try:
        layout = source.concept_map(data)
        found = source.report(data, layer, here.step) if layer else None
    except StoreError as error:
        return _empty(reply, f"{DAMAGED} {error}.")
    if layout is None or found is None:
        return _empty(reply, NOT_FITTED if layout is None else NOT_CAPTURED)
    snapshot, report = found
    trail = source.trail(data, layer or "", here.unit, here.step) if here.unit is not None else None
    figure = _figure(here, data, theme, source, webgl, found, trail, layout)
    units = len(report.arrays.live)
    # The images its units answered to: a process that resumed the run may have had others than the one before.
    info = replace(data.info, probe_fingerprint=snapshot.probe_fingerprint or data.info.probe_fingerprint)
    card = [here.run, here.page, layer, here.step, here.unit, snapshot.sequence]
    point = data.at(layer, here.step)
    earlier = shown_instead(point.step, snapshot.step) if point else ""
    wishes = sorted({anchor.wish for anchor in data.anchors}, reverse=True)
    return (
        reply.figure("map", figure),
        reply.part("summary", [layer, snapshot.sequence, earlier], lambda: earlier + map_sentence(layout, report)),
        reply.part("legend", [theme.name, wishes], lambda: [*legend(), _unclear(), _star(), *_added(wishes)]),
        reply.part("card", card, lambda: neuron_card(here, info, layout, report, trail, snapshot.step)),
        reply.part(
            "tracked",
            [here.unit, here.track, here.marks, snapshot.step],
            lambda: tracked_bar(here, snapshot.step),
        ),
        reply.part("unit", [here.unit], lambda: "" if here.unit is None else here.unit),
        reply.part("units", units, lambda: units - 1),
    )


def _figure(
    here: View,
    data: RunData,
    theme: Theme,
    source: Source,
    webgl: bool,
    found: tuple[SnapshotInfo, LayerReport],
    trail: Trail | None,
    words: ConceptMap,
) -> Drawing:
    """The map as all tabs with this view share it."""
    snapshot, report = found
    layer = report.summary.layer
    ways = {unit: source.trail(data, layer, unit, here.step) for unit in here.track[:MOST_UNITS]}
    added = tuple((anchor.word, anchor.wish, *anchor.place) for anchor in data.anchors)

    def make() -> dict[str, Any]:
        figure = concept_map.draw(
            words,
            report,
            theme,
            selected=here.unit,
            trail=trail,
            revision=f"{here.run}/{layer}",
            webgl=webgl,
            meta={"sequence": snapshot.sequence, "captured_at": snapshot.captured_at, "step": snapshot.step},
            tracked={unit: way for unit, way in ways.items() if way is not None},
            marks=here.marks,
            layered=True,
        )
        figure["data"].append(anchor_stars.stars(data.anchors, theme))
        return figure

    key = ("map", here.run, snapshot.sequence, here.unit, here.track, here.marks, theme.name, webgl, added)
    return source.drawn.get(report, key, make)


def _unclear():
    return html.Span([html.Span("○", className="glyph", **aria(hidden="true")), " not interpretable"])


def _added(wishes: Sequence[str]) -> list:
    """The marks of anchors that people added, as far as there are any."""
    return [
        html.Span([html.Span(anchor_stars.GLYPHS[wish], className=f"glyph wish-{wish}", **aria(hidden="true")), said])
        for wish in wishes
        for said in (f" {anchor_stars.SAID[wish]} anchor you added",)
    ]


def _star():
    return html.Span([html.Span("★", className="glyph", **aria(hidden="true")), " anchor word"])
