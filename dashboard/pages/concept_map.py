"""Concept map: one layer's neurons among the anchor stars, and the selected neuron's card."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph


def page():
    """The map's frame."""
    choose = dmc.NumberInput(
        id="unit-input",
        min=0,
        step=1,
        size="xs",
        w=110,
        placeholder="neuron",
        debounce=True,
        allowDecimal=False,
        **aria(label="Neuron number"),
    )
    tools = html.Div(
        [html.Div(id="map-legend", className="legend"), html.Label(["neuron", choose], className="layer-choice")],
        className="tools",
    )
    return html.Div(
        [
            dcc.Store(id="map-now"),
            dcc.Store(id="map-sent"),
            html.Div(
                [
                    html.Section(
                        [
                            tools,
                            html.Div(id="map-tracked", className="tracked"),
                            graph("map-graph", "map", "map of concept words and neurons", "units", scrollZoom=True),
                            html.P(id="map-summary", className="summary"),
                        ],
                        className="panel main map-panel",
                    ),
                    html.Section(id="neuron-card", className="panel side neuron", **aria(live="polite")),
                ],
                className="columns map-columns",
            ),
        ],
        id="map-page",
    )
