"""The Evolution page's callback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dash import Dash, Input, Output, State
from dash.exceptions import PreventUpdate

from cm_server import recompute
from cm_server.report import LayerReport, SeriesPoint
from dashboard import theme as look
from dashboard import view as where
from dashboard import wishes as wish
from dashboard.asking import Asking
from dashboard.callbacks.overview import legend
from dashboard.callbacks.reply import Reply
from dashboard.chosen import choose
from dashboard.components import evolution as words
from dashboard.components.panel import EMPTY
from dashboard.data import RunData, Source
from dashboard.figures import approach as ways
from dashboard.figures import curves, evolution
from dashboard.recomputed import Recomputed, Temperatures
from dashboard.theme import Theme
from dashboard.view import View
from dashboard.wishes import Wishes

OUTPUTS = (
    Output("evolution-legend", "children"),
    Output("evolution-categories-frame", "style"),
    Output("evolution-categories-graph", "figure"),
    Output("evolution-categories-table", "children"),
    Output("evolution-taus", "value"),
    Output("evolution-taus-graph", "figure"),
    Output("evolution-taus-summary", "children"),
    Output("evolution-taus-table", "children"),
    Output("evolution-temperatures", "value"),
    Output("evolution-temperatures-graph", "figure"),
    Output("evolution-temperatures-summary", "children"),
    Output("evolution-temperatures-table", "children"),
    Output("evolution-anchors", "data"),
    Output("evolution-anchors", "value"),
    Output("evolution-trails-graph", "figure"),
    Output("evolution-distances-graph", "figure"),
    Output("evolution-anchors-summary", "children"),
    Output("evolution-anchors-table", "children"),
    Output("evolution-sent", "data"),
)


def register(app: Dash, source: Source, asking: Asking) -> None:
    """Adds the page's callback."""
    recomputed = Recomputed(source)

    @app.callback(
        OUTPUTS,
        Input("evolution-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("evolution-sent", "data"),
    )
    def evolve(now: dict[str, Any] | None, pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        here = where.parse(pathname, search)
        data = source.run(here.run)
        if data is None or here.page != "evolution":
            raise PreventUpdate
        page = _Page(here, search or "", data, look.theme(theme), source, recomputed, asking, Reply(sent, now))
        return page.draw()


class _Page:
    """One answer: its parts in the order of ``OUTPUTS``."""

    def __init__(
        self,
        here: View,
        search: str,
        data: RunData,
        theme: Theme,
        source: Source,
        recomputed: Recomputed,
        asking: Asking,
        reply: Reply,
    ) -> None:
        self.here, self.wishes, self.data, self.theme = here, wish.parse(search), data, theme
        if not wish.names_anchors(search):  # those of the run, until others are named
            own = tuple(dict.fromkeys(anchor.word for anchor in data.anchors))[: wish.MOST]
            self.wishes = replace(self.wishes, anchors=own)
        self.asked = search  # what was typed and means nothing is taken back, too
        self.source, self.recomputed, self.asking, self.reply = source, recomputed, asking, reply
        self.layer = data.layer(here.layer) or ""
        self.point = data.at(self.layer, here.step)
        self.key = [here.run, self.layer, here.step, self.point.sequence if self.point else 0]
        self.more = False

    def draw(self) -> tuple:
        parts = (*self._categories(), *self._thresholds(), *self._temperatures(), *self._anchors())
        return (*parts, self.reply.sent() | {"more": self.more})

    def _categories(self) -> list:
        step = None if self.here.live or self.point is None else self.point.step
        figure = evolution.categories_over_steps(self.data.series, self.theme, step=step, revision=self.here.run or "")
        return [
            self.reply.part("legend", self.theme.name, legend),
            self.reply.part(
                "categories frame", len(self.data.series), lambda: {"--rows": f"{figure['layout']['height']}px"}
            ),
            self.reply.figure("categories", figure),
            self.reply.part("categories table", self.key[3], lambda: words.categories_table(self.data.series)),
        ]

    def _thresholds(self) -> list:
        found = self.source.report(self.data, self.layer, self.here.step)
        if found is None:
            return [list(map(wish.number, self.wishes.taus)), dict(EMPTY), "", []]
        report = found[1]
        taus = self.wishes.taus or words.default_taus(report)
        bars = thresholds(report, self.source.words(self.data)[1], taus)
        key = [*self.key, list(taus)]
        return [
            self.reply.part("taus", self.asked, lambda: list(map(wish.number, self.wishes.taus))),
            self.reply.figure(
                "taus figure", evolution.threshold_bars(bars, report.summary.units, self.theme, self.layer)
            ),
            self.reply.part("taus text", key, lambda: words.thresholds_sentence(report.summary, bars)),
            self.reply.part("taus table", key, lambda: words.thresholds_table(bars, report.summary.units)),
        ]

    def _temperatures(self) -> list:
        wanted, reply = self.wishes.temperatures, self.reply
        found = self.recomputed.d_anchors(self.data, self.layer, wanted, self.here.step) if wanted else Temperatures()
        self.more = self.more or found.progress.more
        own = self.point.summary.temperature if self.point else 0.0
        key = [*self.key, list(wanted), found.progress.done, found.progress.missing]
        figure = evolution.d_anchor_by_temperature(
            curves.curve(_shown(self.data.series.get(self.layer, []), self.point)),
            found.curves,
            self.theme,
            revision=f"{self.here.run}/{self.layer}",
        )
        return [
            reply.part("temperatures", self.asked, lambda: list(map(wish.number, wanted))),
            reply.figure("temperatures figure", figure),
            reply.part(
                "temperatures text", key, lambda: words.temperatures_summary(found, own, wanted, self._offer(own))
            ),
            reply.part("temperatures table", key, lambda: words.temperatures_table(found)),
        ]

    def _offer(self, own: float) -> str:
        """The address that asks for temperatures around the run's own, everything else as it is."""
        asked = Wishes(self.wishes.taus, words.around_own(own), self.wishes.anchors)
        address = where.url(self.here)
        return address + ("&" if "?" in address else "?") + wish.query(asked)

    def _anchors(self) -> list:
        wanted, reply = self.wishes.anchors, self.reply
        vocabulary, _ = self.source.words(self.data)
        layout = self.source.concept_map(self.data)
        chosen = choose(wanted, self.data, self.source, self.asking)
        found, progress = self.recomputed.approaches(self.data, self.layer, chosen.anchors, self.here.step)
        self.more = self.more or progress.more or chosen.asking
        revision = f"{self.here.run}/{self.layer}"
        key = [*self.key, list(wanted), progress.done, chosen.missing]
        return [
            reply.part("vocabulary", self.data.info.concept_fingerprint, lambda: sorted(set(vocabulary))),
            reply.part("anchors", [self.asked, list(wanted)], lambda: list(wanted)),
            reply.figure(
                "trails",
                dict(EMPTY) if layout is None else ways.trails(found, layout, self.theme, revision=revision),
            ),
            reply.figure("distances", ways.distances(found, self.theme, revision=revision)),
            reply.part("anchors text", key, lambda: words.anchors_sentence(found, progress, wanted, chosen.missing)),
            reply.part("anchors table", key, lambda: words.anchors_table(found, self.layer)),
        ]


def thresholds(
    report: LayerReport, categories: tuple[str, ...], taus: tuple[float, ...]
) -> Mapping[str, Mapping[str, int]]:
    """Units per category for the thresholds in force, then for each τ alone, in rising order."""
    alone = {f"τ {tau:g}": recompute.categories_at(report, categories, tau) for tau in sorted(taus)}
    return {words.IN_FORCE: dict(report.summary.categories)} | alone


def _shown(points: list[SeriesPoint], point: SeriesPoint | None) -> list[SeriesPoint]:
    """The part of a series that is comparable with the shown snapshot."""
    return [p for p in points if point is not None and p.summary.fingerprint == point.summary.fingerprint]
