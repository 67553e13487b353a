"""Neuron: one unit, under an address of its own."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="neuron-now"),
            dcc.Store(id="neuron-sent"),
            html.Section([html.Div(id="neuron-head", **aria(live="polite")), _bar()], className="panel neuron-top"),
            html.Div([_main(), _side()], className="columns", id="neuron-body"),
        ],
        id="neuron-page",
        className="stacked",
    )


def _bar():
    number = dmc.NumberInput(
        id="unit-input",
        min=0,
        step=1,
        size="xs",
        w=96,
        placeholder="neuron",
        debounce=True,
        allowDecimal=False,
        **aria(label="Neuron number"),
    )
    return html.Div(
        [
            html.Label(["neuron", number], className="layer-choice"),
            html.Div(id="neuron-tools", className="neuron-tools"),
            html.Div(id="neuron-pins", className="pins"),
        ],
        className="neuron-bar",
    )


def _main():
    return html.Div(
        [
            html.Section(
                [html.H2("Highest-activating images, with activation"), html.Div(id="neuron-images")], className="panel"
            ),
            html.Section(
                [
                    html.H2("Concepts through time"),
                    graph(
                        "neuron-ribbon-graph",
                        "ribbon-plot",
                        "the neuron's best concept at every snapshot",
                        told="neuron-ribbon-table",
                    ),
                    html.P(id="neuron-ribbon-summary", className="summary"),
                    html.Div(id="neuron-ribbon-table", className="hidden"),
                ],
                className="panel",
            ),
            html.Section(
                [
                    html.H2("Its way on the map"),
                    graph("neuron-map-graph", "neuron-map", "the neuron's way among the words", scrollZoom=True),
                    html.P(id="neuron-map-summary", className="summary"),
                ],
                className="panel",
            ),
        ],
        className="column main",
    )


def _side():
    parts = (
        ("Top concepts", "neuron-concepts"),
        ("Nearest neurons", "neuron-near"),
        ("Distance to added anchors", "neuron-anchors"),
    )
    return html.Div(
        [html.Section([html.H2(title), html.Div(id=name)], className="panel") for title, name in parts],
        className="column side",
    )
