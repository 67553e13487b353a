"""Compare: two runs, or two steps of one, with one camera and one selection."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph

SIDES = ("left", "right")
MARKS = {"left": "A", "right": "B"}


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="compare-now"),
            dcc.Store(id="compare-sent"),
            html.Section(
                [
                    html.H1("Compare", className="page-title"),
                    html.Div([_chooser("left"), _layer(), _chooser("right")], className="choosers"),
                    html.Div(id="compare-verdict", **aria(live="polite")),
                ],
                className="panel",
            ),
            html.Div(
                [
                    html.Div([_map(side) for side in SIDES], className="pair"),
                    html.Div(
                        [
                            html.Section(id=f"compare-{side}-neuron", className="panel half neuron-half")
                            for side in SIDES
                        ],
                        className="pair",
                        **aria(live="polite"),
                    ),
                ],
                id="compare-maps",
                className="stacked",
            ),
            html.Div([_curves(), _concepts()], className="pair", id="compare-figures"),
        ],
        id="compare-page",
        className="stacked",
    )


def _chooser(side: str):
    run = dmc.Select(
        id=f"compare-{side}-run",
        data=[],
        placeholder="choose a run",
        searchable=True,
        size="xs",
        allowDeselect=False,
        comboboxProps={"zIndex": 400},
        **aria(label=f"Run {MARKS[side]}"),
    )
    step = dmc.Slider(
        id=f"compare-{side}-step",
        min=0,
        max=1,
        step=1,
        value=1,
        size="sm",
        updatemode="mouseup",
        thumbLabel=f"Step of run {MARKS[side]}",
    )
    return html.Div(
        [
            html.Div(
                [
                    html.Span(MARKS[side], className=f"side-mark side-{MARKS[side].lower()}"),
                    html.Div(run, className="grow"),
                ],
                className="row",
            ),
            html.Div(
                [html.Div(step, className="grow"), html.Span(id=f"compare-{side}-label", className="step-label")],
                className="row",
            ),
        ],
        className="chooser",
    )


def _layer():
    select = dmc.Select(
        id="compare-layer",
        data=[],
        searchable=True,
        size="xs",
        w=150,
        allowDeselect=False,
        comboboxProps={"zIndex": 400},
        **aria(label="Layer"),
    )
    swap = html.Button("⇄ swap", id="compare-swap", className="text-button", title="A becomes B, B becomes A")
    return html.Div([html.Label(["layer", select], className="layer-choice"), swap], className="between")


def _map(side: str):
    return html.Section(
        [
            html.Div(id=f"compare-{side}-title", className="side-title"),
            graph(f"compare-{side}-graph", "compare-map", f"map of side {MARKS[side]}", scrollZoom=True),
            html.P(id=f"compare-{side}-summary", className="summary"),
        ],
        className="panel half map-half",
    )


def _curves():
    return html.Section(
        [
            html.H2("Curves"),
            graph("compare-curves-graph", "compare-curves", "d_anchor, accuracy and loss of both runs over steps"),
            html.Div(id="compare-table", className="table-frame"),
            html.P(id="compare-note", className="summary"),
        ],
        className="panel half",
    )


def _concepts():
    return html.Section(
        [
            html.H2("The most common concepts"),
            graph(
                "compare-concepts-graph",
                "compare-bars",
                "most common concepts on both sides",
                told="compare-words-table",
            ),
            html.P(id="compare-words", className="summary"),
            html.Div(id="compare-words-table", className="hidden"),
        ],
        className="panel half",
    )
