"""The Concepts page's callback."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from dash import Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from cm_server import recompute
from cm_server.report import ConceptMap, LayerReport, SnapshotInfo
from cm_server.stores.errors import StoreError
from dashboard import lookup
from dashboard import view as where
from dashboard.asking import Asking
from dashboard.callbacks.concept_map import DAMAGED
from dashboard.callbacks.reply import Reply
from dashboard.census import census, turnover
from dashboard.components import concepts as words
from dashboard.components.summary import shown_instead, start_of
from dashboard.data import RunData, Source
from dashboard.nearness import comparable
from dashboard.view import View

OUTPUTS = (
    Output("concepts-q", "value"),
    Output("concepts-note", "children"),
    Output("concepts-hits", "className"),
    Output("concepts-words", "children"),
    Output("concepts-units", "children"),
    Output("concepts-images", "children"),
    Output("concepts-add", "children"),
    Output("concepts-anchors", "children"),
    Output("concepts-common", "children"),
    Output("concepts-turnover", "children"),
    Output("concepts-since", "value"),
    Output("concepts-sent", "data"),
)
NOT_READY = "The run's words are being laid out; they appear here by themselves."
NOT_CAPTURED = "This layer is not captured in this run. Choose another above."


def register(app: Dash, source: Source, asking: Asking) -> None:
    """Adds the page's callback."""

    @app.callback(
        OUTPUTS,
        Input("concepts-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("concepts-sent", "data"),
    )
    def speak(now: dict[str, Any] | None, pathname: str, search: str, sent: dict[str, Any] | None):
        here = where.parse(pathname, search)
        data = source.run(here.run)
        if data is None or here.page != "concepts":
            raise PreventUpdate
        return _Page(here, lookup.text_of(search), _since(search), data, source, asking, Reply(sent, now)).draw()


class _Page:
    """One answer: its parts in the order of ``OUTPUTS``."""

    def __init__(
        self, here: View, text: str, since: int | None, data: RunData, source: Source, asking: Asking, reply: Reply
    ) -> None:
        self.here, self.text, self.since, self.data = here, text, since, data
        self.source, self.asking, self.reply = source, asking, reply
        self.layer = data.layer(here.layer) or ""

    def draw(self) -> tuple:
        captured = self.here.layer in (None, self.layer)
        try:
            layout = self.source.concept_map(self.data)
            found = self.source.report(self.data, self.layer, self.here.step) if captured else None
        except StoreError as error:
            return self._nothing(f"{DAMAGED} {error}.")
        if layout is None or found is None:
            return self._nothing(NOT_READY if layout is None else NOT_CAPTURED)
        self.key = [self.here.run, self.layer, self.here.step, found[0].sequence]
        hits, asking = self._hits(layout, *found)
        more = {"more": asking}
        return (*hits, *self._anchors(found[1]), *self._speaks(layout, *found), self.reply.sent() | more)

    def _nothing(self, sentence: str) -> tuple:
        said = html.P(sentence, className="verdict")
        # What was sent before is taken off the page: it must be sent again later.
        fresh = {"n": self.reply.sent()["n"], "parts": {}}
        return (self.text, [said], "hidden", [], [], [], [], [], [], [], self._since_field(), fresh)

    def _hits(self, layout: ConceptMap, snapshot: SnapshotInfo, report: LayerReport) -> tuple[list, bool]:
        reply, here = self.reply, self.here
        field = reply.part("q", self.text, lambda: self.text)
        if not self.text:
            said = reply.part("note", "", lambda: words.note(None))
            nothing = [reply.part(name, None, list) for name in ("words", "units", "images", "add")]
            return [field, said, reply.part("shown", False, lambda: "hidden"), *nothing], False
        found = lookup.look_up(self.text, self.data, self.source, self.asking)
        key = [*self.key, self.text, found.by, found.note]
        near = lookup.near_units(found, report)
        naming = lookup.units_naming(found, report) if near is None else []
        probe = snapshot.probe_fingerprint or self.data.info.probe_fingerprint
        counts = census(report)
        return [
            field,
            reply.part("note", [self.text, found.note], lambda: words.note(found)),
            reply.part("shown", True, lambda: "hits-columns"),
            reply.part("words", key, lambda: words.concepts_list(found, layout, counts, here)),
            reply.part("units", key, lambda: words.units_list(near, naming, layout, report, here)),
            reply.part("images", key, lambda: words.images_list(found, probe)),
            reply.part("add", [self.text, found.by], lambda: words.add_buttons(self.text, found.by == lookup.SERVER)),
        ], found.by == lookup.ASKING

    def _anchors(self, report: LayerReport) -> list:
        anchors = self.data.anchors
        key = [self.key, [[a.word, a.wish, a.created] for a in anchors]]
        return [self.reply.part("anchors", key, lambda: self._anchor_lines(report))]

    def _anchor_lines(self, report: LayerReport) -> list:
        now, start = report.arrays.embeddings, self._start()
        before = None if start is None else start[1].arrays.embeddings
        lines = []
        for anchor in self.data.anchors:
            able = comparable(anchor, now)
            lines.append(
                words.AnchorLine(
                    anchor,
                    recompute.group_distance(now, anchor.vector) if able else float("nan"),
                    recompute.group_distance(before, anchor.vector) if able and before is not None else float("nan"),
                )
            )
        return words.anchors_list(lines, self.layer, self.here)

    def _speaks(self, layout: ConceptMap, snapshot: SnapshotInfo, report: LayerReport) -> list:
        reply, here = self.reply, self.here
        point = self.data.at(self.layer, here.step)
        earlier = shown_instead(point.step, snapshot.step) if point else ""
        counts = census(report)
        return [
            reply.part("common", self.key, lambda: words.common_table(counts, layout, report, here, earlier)),
            reply.part("turnover", [self.key, self.since], lambda: self._turnover(layout, report)),
            reply.part("since", self.since, self._since_field),
        ]

    def _since_field(self) -> int | str:
        return "" if self.since is None else self.since

    def _turnover(self, layout: ConceptMap, report: LayerReport) -> list:
        start = self._start() if self.since is None else self._at(self.since)
        if start is None:
            return words.turnover_lists(None, layout, self.here, self.since)
        found = turnover(census(start[1]), census(report))
        return words.turnover_lists(found, layout, self.here, start[0].step)

    def _at(self, step: int) -> tuple[SnapshotInfo, LayerReport] | None:
        """The snapshot at or before a step; None where it may not be compared with the shown one, or is that one."""
        point, before = self.data.at(self.layer, self.here.step), self.data.at(self.layer, step)
        if point is None or before is None or before.step >= point.step:
            return None
        try:
            found = self.source.report(self.data, self.layer, before.step)
        except StoreError:  # damaged
            return None
        same = found is not None and found[1].summary.fingerprint == point.summary.fingerprint
        return found if same else None

    def _start(self) -> tuple[SnapshotInfo, LayerReport] | None:
        """The first snapshot that may be compared with the shown one; None if it is the shown one itself."""
        point = self.data.at(self.layer, self.here.step)
        if point is None:
            return None
        first = start_of(self.data.series[self.layer], point)
        try:
            found = self.source.report(self.data, self.layer, first.step) if first is not point else None
        except StoreError:  # damaged: it cannot be compared with
            return None
        same = found is not None and found[1].summary.fingerprint == point.summary.fingerprint
        return found if same else None


def _since(search: str | None) -> int | None:
    """The step of ``?since=``; None for the start."""
    return where.whole(parse_qs((search or "").lstrip("?")).get("since", [""])[0])
