"""The overview's callback."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from dash import Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.reply import Reply
from dashboard.components.alerts import alerts_list, marks_of
from dashboard.components.aria import aria
from dashboard.components.summary import categories_table, d_anchor_table, overhead_sentence, scalars_sentence
from dashboard.data import RunData, Source
from dashboard.figures import categories, curves
from dashboard.theme import Theme
from dashboard.view import View

OUTPUTS = (
    Output("d-anchor-graph", "figure"),
    Output("scalars-graph", "figure"),
    Output("categories-graph", "figure"),
    Output("d-anchor-summary", "children"),
    Output("overhead-line", "children"),
    Output("scalars-summary", "children"),
    Output("categories-summary", "children"),
    Output("categories-legend", "children"),
    Output("alerts-list", "children"),
    Output("overview-sent", "data"),
)


def register(app: Dash, source: Source) -> None:
    """Adds the overview's callback."""

    @app.callback(
        OUTPUTS,
        Input("overview-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("overview-sent", "data"),
    )
    def overview(now: dict[str, Any] | None, pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        here = where.parse(pathname, search)
        data = source.run(here.run)
        if data is None or here.page != "overview":
            raise PreventUpdate
        return _draw(here, data, look.theme(theme), source, Reply(sent, now), zoom_of(now))


def _draw(
    here: View, data: RunData, theme: Theme, source: Source, reply: Reply, zoom: tuple[float, float] | None
) -> tuple:
    layer = data.layer(here.layer)
    points = {name: point for name in data.series if (point := data.at(name, here.step)) is not None}
    sequence = max((point.sequence for point in points.values()), default=0)
    summaries = {name: point.summary for name, point in points.items()}
    key = (layer, here.step, theme.name, zoom)
    both = cache(lambda: figures(here, data, theme, layer, zoom))
    table = [sequence, layer]
    marks = marks_of(data.alerts, data.acknowledged, data.silences, time.time())
    fixed = len(data.scalars), sum(len(s.steps) for s in data.scalars.values()), here.step
    return (
        reply.figure("d_anchor", source.drawn.get(data, ("d_anchor", *key), lambda: both()[0])),
        reply.figure("scalars", source.drawn.get(data, ("scalars", *key), lambda: both()[1])),
        reply.figure(
            "categories",
            source.drawn.get(data, ("categories", *key), lambda: categories.bars(summaries, theme, here.run or "")),
        ),
        reply.part("table", table, lambda: d_anchor_table(data.series, points, layer)),
        reply.part("overhead", overhead_sentence(data.info.stats), lambda: overhead_sentence(data.info.stats)),
        reply.part("scalars text", fixed, lambda: scalars_sentence(data.scalars, here.step, curves.PANELS)),
        reply.part("categories text", sequence, lambda: categories_table(summaries)),
        reply.part("legend", [theme.name], legend),
        reply.part(
            "alerts",
            [[a.id, a.state, a.updated, marks.get(a.id)] for a in data.alerts],
            lambda: alerts_list(data.alerts, here, marks),
        ),
        reply.sent(),
    )


def zoom_of(now: dict[str, Any] | None) -> tuple[float, float] | None:
    """The user's range of the step axis, if the page sent a sensible one."""
    match (now or {}).get("zoom"):
        case [int() | float() as low, int() | float() as high] if low < high:
            return low, high
    return None


def figures(
    here: View, data: RunData, theme: Theme, layer: str | None, zoom: tuple[float, float] | None
) -> tuple[dict, dict]:
    """The two figures on the shared step axis; ``meta`` holds the whole run's span for the way back from a zoom."""
    lines = {name: curves.curve(points) for name, points in data.series.items()}
    span = curves.span_of(lines, data.scalars, data.info.planned_steps)
    point, shown = data.at(layer, None), data.at(layer, here.step)
    meta: dict[str, Any] = {"span": list(span)}
    if point and shown:
        meta |= {"sequence": point.sequence, "captured_at": point.time, "step": shown.step}
    step = None if here.live or shown is None else shown.step
    main = curves.d_anchor(
        lines, data.alerts, theme, focus=layer, step=step, span=zoom or span, revision=here.run or "", meta=meta
    )
    below = curves.scalars(data.scalars, theme, step=step, span=zoom or span, revision=here.run or "")
    below["layout"]["meta"] = {"span": list(span)}
    return main, below


def legend() -> list:
    """The categories' colours, with their glyphs."""
    return [
        html.Span([html.Span(look.GLYPHS[name], className=f"glyph cat-{name}", **aria(hidden="true")), " ", name])
        for name in look.CATEGORIES
    ]
