"""Concepts: search in any words, what the layer speaks of, what it gained and lost, and anchors of one's own."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="concepts-now"),
            dcc.Store(id="concepts-sent"),
            dcc.Store(id="anchors-ordered"),
            html.Section(
                [_search(), html.Div(id="concepts-note"), html.Div(_hits(), id="concepts-hits", className="hidden")],
                className="panel",
            ),
            _panel("Anchors of your own", "concepts-anchors", html.P(id="anchors-result", role="status")),
            html.Div(
                [
                    _panel("Most common concepts", "concepts-common"),
                    _panel("Gained and lost", "concepts-turnover", _since()),
                ],
                className="pair",
            ),
        ],
        id="concepts-page",
        className="stacked",
    )


def _search():
    field = dmc.TextInput(
        id="concepts-q",
        placeholder="striped fur, wheels, night sky …",
        size="sm",
        debounce=True,
        className="concepts-field",
        **aria(label="Search in any words"),
    )
    return html.Div(
        [html.H1("Concepts", className="page-title"), field, html.Div(id="concepts-add", className="neuron-tools")],
        className="runs-bar",
    )


def _since():
    """From which step on; empty: the start."""
    field = dmc.NumberInput(
        id="concepts-since", size="xs", w=120, min=0, placeholder="the start", debounce=True, allowDecimal=False,
        **aria(label="Gained and lost since step"),
    )  # fmt: skip
    return html.Label(["since step", field], className="layer-choice")


def _hits() -> list:
    parts = (
        ("Nearest concepts", "concepts-words"),
        ("Nearest neurons", "concepts-units"),
        ("Nearest probe images", "concepts-images"),
    )
    return [html.Div([html.H2(title), html.Div(id=name)], className="hit") for title, name in parts]


def _panel(title: str, name: str, *more):
    return html.Section([html.H2(title), *more, html.Div(id=name)], className="panel half")
