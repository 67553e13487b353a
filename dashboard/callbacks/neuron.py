"""The neuron page's callback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dash import Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from cm_server.report import ConceptMap, LayerReport, SnapshotInfo, Trail
from cm_server.stores.errors import StoreError
from dashboard import nearness
from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.concept_map import DAMAGED
from dashboard.callbacks.reply import Reply
from dashboard.components import neuron_page as words
from dashboard.components.panel import EMPTY
from dashboard.components.summary import shown_instead, start_of
from dashboard.data import RunData, Source
from dashboard.figures import journey
from dashboard.figures.ribbon import ribbon
from dashboard.theme import Theme
from dashboard.view import View

OUTPUTS = (
    Output("neuron-pins", "children"),
    Output("neuron-tools", "children"),
    Output("neuron-head", "children"),
    Output("neuron-body", "className"),
    Output("neuron-images", "children"),
    Output("neuron-ribbon-graph", "figure"),
    Output("neuron-ribbon-summary", "children"),
    Output("neuron-ribbon-table", "children"),
    Output("neuron-map-graph", "figure"),
    Output("neuron-map-summary", "children"),
    Output("neuron-concepts", "children"),
    Output("neuron-near", "children"),
    Output("neuron-anchors", "children"),
    Output("unit-input", "value", allow_duplicate=True),
    Output("unit-input", "max", allow_duplicate=True),
    Output("neuron-sent", "data"),
)
NOT_FITTED = "The map of the words is being fitted; the neuron appears here by itself."
NOT_CAPTURED = "This layer is not captured in this run. Choose another above."


def register(app: Dash, source: Source) -> None:
    """Adds the page's callback."""

    @app.callback(
        OUTPUTS,
        Input("neuron-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("neuron-sent", "data"),
        prevent_initial_call="initial_duplicate",
    )
    def inspect(now: dict[str, Any] | None, pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        here = where.parse(pathname, search)
        data = source.run(here.run)
        if data is None or here.page != "neuron":
            raise PreventUpdate
        return _Page(here, data, look.theme(theme), source, Reply(sent, now)).draw()


class _Page:
    """One answer: its parts in the order of ``OUTPUTS``."""

    def __init__(self, here: View, data: RunData, theme: Theme, source: Source, reply: Reply) -> None:
        self.here, self.data, self.theme, self.source, self.reply = here, data, theme, source, reply
        self.layer = data.layer(here.layer) or ""
        self.captured = here.layer in (None, self.layer)

    def draw(self) -> tuple:
        try:
            layout = self.source.concept_map(self.data)
            found = self.source.report(self.data, self.layer, self.here.step) if self.captured else None
        except StoreError as error:
            return self._nothing(f"{DAMAGED} {error}.")
        if layout is None or found is None:
            return self._nothing(NOT_CAPTURED if layout is not None else NOT_FITTED)
        self.here = replace(self.here, layer=self.layer)
        self.key = [*_plain(self.here), found[0].sequence]
        trail = None
        if self.here.unit is not None:
            trail = self._trail(self.here.unit)
        return self._drawn(layout, *found, trail)

    def _trail(self, unit: int) -> Trail | None:
        try:
            return self.source.trail(self.data, self.layer, unit, self.here.step)
        except StoreError:  # a damaged snapshot in its past: the present can be shown
            return None

    def _nothing(self, sentence: str) -> tuple:
        said = html.P(sentence, className="verdict")
        # What was sent before is taken off the page: it must be sent again later.
        fresh = {"n": self.reply.sent()["n"], "parts": {}}
        return ([], [], said, "hidden", [], EMPTY, "", [], EMPTY, "", [], [], [], "", None, fresh)

    def _drawn(self, layout: ConceptMap, snapshot: SnapshotInfo, report: LayerReport, trail: Trail | None) -> tuple:
        here, reply, units = self.here, self.reply, len(report.arrays.live)
        unit = here.unit if here.unit is not None and here.unit < units else None
        alive = unit is not None and bool(report.arrays.live[unit])
        body = "hidden" if unit is None else "columns" if alive else "columns dead"
        chosen = here.unit is not None
        point = self.data.at(self.layer, here.step)
        earlier = shown_instead(point.step, snapshot.step) if point else ""
        return (
            reply.part("pins", [self.key, list(here.track)], lambda: words.pins(here, layout, report)),
            reply.part("tools", self.key, lambda: words.tools(here, snapshot.step, units) if chosen else []),
            reply.part("head", self.key, lambda: self._head(layout, report, earlier)),
            reply.part("body", body, lambda: body),
            *self._pictures(unit if alive else None, snapshot, report),
            *self._ribbon(layout, snapshot, trail),
            *self._way(unit if alive else None, layout, report, trail),
            *self._beside(unit if alive else None, layout, report),
            reply.part("unit", [here.unit], lambda: "" if here.unit is None else here.unit),
            reply.part("units", units, lambda: units - 1),
            reply.sent(),
        )

    def _head(self, layout: ConceptMap, report: LayerReport, earlier: str) -> list:
        make = words.choose if self.here.unit is None else words.heading
        return [*make(self.here, layout, report), *([html.P(earlier, className="quiet")] if earlier else [])]

    def _pictures(self, unit: int | None, snapshot: SnapshotInfo, report: LayerReport) -> list:
        # The images its units answered to: a process that resumed the run may have had others than the one before.
        info = replace(self.data.info, probe_fingerprint=snapshot.probe_fingerprint or self.data.info.probe_fingerprint)
        key = [self.key, unit]
        return [self.reply.part("images", key, lambda: [] if unit is None else words.activating(unit, info, report))]

    def _ribbon(self, layout: ConceptMap, snapshot: SnapshotInfo, trail: Trail | None) -> list:
        reply, points = self.reply, self.data.series[self.layer]
        if trail is None:
            empty = [reply.part(name, None, list) for name in ("ribbon text", "ribbon table")]
            return [reply.figure("ribbon", dict(EMPTY)), *empty]
        figure = ribbon(
            trail,
            layout.words,
            layout.categories,
            self.theme,
            tau=[(p.step, p.summary.tau) for p in points if p.step <= snapshot.step],
            step=None if self.here.live else snapshot.step,
            end=points[-1].step,
            revision=f"{self.here.run}/{self.layer}:{self.here.unit}",
        )
        return [
            reply.figure("ribbon", figure),
            reply.part("ribbon text", self.key, lambda: words.ribbon_sentence(trail, layout.words, self.data.gaps)),
            reply.part("ribbon table", self.key, lambda: words.ribbon_table(trail, layout.words)),
        ]

    def _way(self, unit: int | None, layout: ConceptMap, report: LayerReport, trail: Trail | None) -> list:
        reply = self.reply
        if unit is None:
            return [reply.figure("map", dict(EMPTY)), reply.part("way", None, str)]
        near = [one.unit for one in nearness.neighbours(report, unit)]
        figure = journey.draw(
            layout,
            report,
            unit,
            trail,
            self.theme,
            near=near,
            anchors=self.data.anchors,
            revision=f"{self.here.run}/{self.layer}:{unit}",
        )
        share = journey.share_shown(layout, journey.extent(layout, report, unit, trail))
        return [reply.figure("map", figure), reply.part("way", self.key, lambda: words.way_sentence(trail, share))]

    def _beside(self, unit: int | None, layout: ConceptMap, report: LayerReport) -> list:
        reply, here = self.reply, self.here
        if unit is None:
            return [reply.part(name, None, lambda: []) for name in ("concepts", "near", "anchors")]
        anchors = self.data.anchors
        said = [[a.word, a.wish, a.created] for a in anchors]
        near = nearness.neighbours(report, unit)
        return [
            reply.part("concepts", self.key, lambda: words.concepts_table(unit, layout, report)),
            reply.part("near", self.key, lambda: words.near_list(here, layout, report, near)),
            reply.part("anchors", [self.key, said], lambda: self._anchors(unit, report)),
        ]

    def _anchors(self, unit: int, report: LayerReport) -> list:
        anchors = self.data.anchors
        start = self._start_embeddings() if anchors else None
        found = nearness.anchor_distances(anchors, report.arrays.embeddings, start, unit)
        return words.anchors_table(found, len(anchors))

    def _start_embeddings(self):
        point = self.data.at(self.layer, self.here.step)
        if point is None:
            return None
        first = start_of(self.data.series[self.layer], point)
        try:
            found = self.source.report(self.data, self.layer, first.step)
        except StoreError:  # damaged: it cannot be compared with
            return None
        same = found is not None and found[1].summary.fingerprint == point.summary.fingerprint
        return found[1].arrays.embeddings if same else None


def _plain(here: View) -> list:
    return [here.run, here.page, here.layer, here.step, here.unit, list(here.track)]
