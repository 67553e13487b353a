"""Evolution: what a run's neurons speak of over the steps, under other settings, and with regard to chosen anchors."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="evolution-now"),
            dcc.Store(id="evolution-sent"),
            html.Div([_categories(), _approach()], className="pair"),
            html.Div([_thresholds(), _temperatures()], className="pair"),
        ],
        id="evolution-page",
        className="stacked",
    )


def _categories():
    return html.Section(
        [
            html.H2("What the layers speak of, over the steps"),
            html.Div(id="evolution-legend", className="legend"),
            html.Div(  # as high as there are layers, which only the answer knows
                graph(
                    "evolution-categories-graph",
                    "filled",
                    "share of units per category, per layer, over steps",
                    told="evolution-categories-table",
                ),
                id="evolution-categories-frame",
                style={"--rows": "300px"},
            ),
            html.Div(id="evolution-categories-table", className="hidden"),
        ],
        className="panel half",
    )


def _approach():
    words = dmc.TagsInput(
        id="evolution-anchors",
        data=[],
        value=[],
        placeholder="type a word and press Enter",
        size="xs",
        maxTags=6,
        limit=30,
        clearable=True,
        comboboxProps={"zIndex": 400},
        **aria(label="Anchor words"),
    )
    return html.Section(
        [
            html.H2("Toward anchors you choose"),
            html.Div(words, className="wish"),
            graph("evolution-trails-graph", "evolution-map", "map with the ways of the neurons nearest to the anchors"),
            graph(
                "evolution-distances-graph",
                "evolution-distances",
                "distance of the nearest neurons over steps",
                told="evolution-anchors-table",
            ),
            html.P(id="evolution-anchors-summary", className="summary"),
            html.Div(id="evolution-anchors-table", className="hidden"),
        ],
        className="panel half",
    )


def _thresholds():
    return html.Section(
        [
            html.H2("Interpretable units at several τ"),
            _numbers("evolution-taus", "another τ, for example 0.2", "Thresholds"),
            graph(
                "evolution-taus-graph",
                "evolution-bars",
                "interpretable units per category at several thresholds",
                told="evolution-taus-table",
            ),
            html.P(id="evolution-taus-summary", className="summary"),
            html.Div(id="evolution-taus-table", className="hidden"),
        ],
        className="panel half",
    )


def _temperatures():
    return html.Section(
        [
            html.H2("d_anchor at several T"),
            _numbers("evolution-temperatures", "another T, for example 0.05", "Temperatures"),
            graph(
                "evolution-temperatures-graph",
                "evolution-bars",
                "d_anchor over steps at several temperatures",
                told="evolution-temperatures-table",
            ),
            html.P(id="evolution-temperatures-summary", className="summary", **aria(live="polite")),
            html.Div(id="evolution-temperatures-table", className="hidden"),
        ],
        className="panel half",
    )


def _numbers(name: str, placeholder: str, label: str):
    wanted = dmc.TagsInput(
        id=name, value=[], placeholder=placeholder, size="xs", maxTags=6, clearable=True, **aria(label=label)
    )
    return html.Div(wanted, className="wish")
