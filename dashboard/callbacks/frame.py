"""The frame around the page: run and layer choices, facts, state, clock."""

from __future__ import annotations

import time
from dataclasses import astuple
from typing import Any

import numpy as np
from dash import Dash, Input, Output, State, html

from dashboard import status
from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.reply import Reply
from dashboard.components.clock import strip_sentence
from dashboard.components.notices import notices
from dashboard.components.shell import facts_line, tabs
from dashboard.data import RunData, Source
from dashboard.figures.curves import Curve, curve
from dashboard.figures.strip import ends, strip
from dashboard.figures.thinning import thin
from dashboard.view import View

STOPS = 2000
"""Most snapshots that the slider stops at; further ones are reached by their address."""
OUTPUTS = (
    Output("tabs", "children"),
    Output("run-select", "data"),
    Output("run-select", "value"),
    Output("layer-select", "data"),
    Output("layer-select", "value"),
    Output("facts", "children"),
    Output("status", "data"),
    Output("strip-graph", "figure"),
    Output("clock-steps", "data"),
    Output("clock-label", "children"),
    Output("app", "className"),
    Output("strip-summary", "children"),
    Output("notice", "children"),
    Output("frame-sent", "data"),
)


def register(app: Dash, source: Source) -> None:
    """Adds the frame's callback."""

    @app.callback(
        OUTPUTS,
        Input("frame-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("theme", "data"),
        State("frame-sent", "data"),
        prevent_initial_call=True,
    )
    def frame(now: dict[str, Any], pathname: str, search: str, theme: str, sent: dict[str, Any] | None):
        here, reply = where.parse(pathname, search), Reply(sent, now)
        data = source.run(here.run)
        layer = data.layer(here.layer) if data else None
        return (
            *_choices(here, data, layer, source, reply),
            *_facts(here, data, layer, reply),
            *_clock(here, data, layer, theme, reply),
            reply.part(
                "app",
                [here.run is None, bool(data and data.longest())],
                lambda: "app no-run bare" if here.run is None else "app" if data and data.longest() else "app bare",
            ),
            *_words(here, data, layer, reply),
            reply.sent(),
        )


def _choices(here: View, data: RunData | None, layer: str | None, source: Source, reply: Reply) -> list:
    runs = [{"value": r.run, "label": r.name} for r in source.runs()]
    layers = [name for name, _ in data.layers] if data else []
    return [
        reply.part("tabs", list(astuple(here)), lambda: tabs(here)),
        reply.part("runs", [[r["value"], r["label"]] for r in runs], lambda: runs),
        reply.part("run", here.run, lambda: here.run),
        reply.part("layers", layers, lambda: layers),
        reply.part("layer", [here.run, layer], lambda: layer),
    ]


def _facts(here: View, data: RunData | None, layer: str | None, reply: Reply) -> list:
    state = status.facts(data.info if data else None, data.longest() if data else [], time.time())
    state["run"] = here.run
    if data is None:
        return [reply.part("facts", None, lambda: []), state]
    point = data.at(layer, here.step)
    key = [data.info.run, data.info.name, data.info.encoder, layer, point.summary.fingerprint if point else ""]
    return [
        reply.part("facts", key, lambda: facts_line(data.info, point.summary if point else None)),
        state,
    ]


def _clock(here: View, data: RunData | None, layer: str | None, theme: str, reply: Reply) -> list:
    one = curve(data.series.get(layer or "", [])) if data else curve([])
    first, last = ends(one)
    point = data.at(layer, here.step) if data else None
    figure = strip(
        one,
        data.alerts if data else [],
        data.gaps if data else [],
        look.theme(theme),
        step=None if here.live or point is None else point.step,
        revision=f"{here.run}/{layer}",
    )
    return [
        reply.figure("strip", figure),
        reply.part(
            "stops",
            [here.run, layer, first, last, len(one.steps)],
            lambda: {"first": first, "last": last, "steps": stops(one)},
        ),
        reply.part(
            "label",
            [point.step if point else None, last, here.live],
            lambda: label(point.step if point else None, last, here),
        ),
    ]


def _words(here: View, data: RunData | None, layer: str | None, reply: Reply) -> list:
    """The strip in words, and what must be said about the view."""
    said = notices(here, data)
    points = data.series.get(layer or "", []) if data else []
    key = [here.run, layer, len(points), len(data.alerts) if data else 0, len(data.gaps) if data else 0]
    return [
        reply.part(
            "strip text",
            key,
            lambda: strip_sentence(layer or "", curve(points), data.alerts if data else [], data.gaps if data else []),
        ),
        reply.part("notice", said, lambda: [html.P(sentence) for sentence in said]),
    ]


def stops(one: Curve) -> list[int]:
    """The slider's stops: the snapshots' steps, thinned if there are very many."""
    steps = np.unique(one.steps)
    return [int(step) for step in steps[thin(steps.astype(float), STOPS)]]


def label(step: int | None, last: int, here: View) -> list:
    """What the clock says beside the slider."""
    if step is None:
        return ["no snapshot yet"]
    if here.live:
        return [html.Span(f"step {step:,}")]
    return [
        html.Span("past", className="badge"),
        " ",
        html.Span([f"step {step:,} ", html.Span(f"of {last:,}", className="of")]),
    ]
