"""Overview: d_anchor and the logged scalars on one step axis, categories per layer, alerts."""

from __future__ import annotations

from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph


def page():
    """The overview's frame."""
    return html.Div(
        [
            dcc.Store(id="overview-now"),
            dcc.Store(id="overview-sent"),
            html.Div([_curves(), html.Div([_categories(), _alerts()], className="column side")], className="columns"),
        ],
        id="overview-page",
    )


def _curves():
    return html.Div(
        [
            html.Section(
                [
                    html.H2("How much of the concept space the neurons reach"),
                    graph("d-anchor-graph", "tall", "d_anchor per layer over training steps", "d_anchor"),
                    html.Div(id="d-anchor-summary", className="table-frame"),
                    html.P(id="overhead-line", className="summary"),
                ],
                className="panel",
            ),
            html.Section(
                [
                    html.H2("Logged by the training script"),
                    graph("scalars-graph", "medium", "logged quantities over training steps", "scalars"),
                    html.P(id="scalars-summary", className="summary"),
                ],
                className="panel",
            ),
        ],
        className="column main",
    )


def _categories():
    return html.Section(
        [
            html.H2("Interpretable units by category"),
            html.Div(id="categories-legend", className="legend"),
            graph("categories-graph", "short", "interpretable units per layer by category", "categories"),
            html.Div(id="categories-summary", className="table-frame"),
        ],
        className="panel",
    )


def _alerts():
    return html.Section([html.H2("Alerts"), html.Div(id="alerts-list", **aria(live="polite"))], className="panel")
