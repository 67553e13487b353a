"""System: how server, store and runs are doing."""

from __future__ import annotations

from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.panel import graph


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="system-now"),
            dcc.Store(id="system-sent"),
            html.Section(
                [
                    html.H1("System", className="page-title"),
                    html.P(id="system-server", className="verdict", **aria(live="polite")),
                    html.Div(
                        [
                            html.Div(id="system-facts"),
                            html.Div([html.H3("Versions here"), html.Div(id="system-versions")]),
                        ],
                        className="pair",
                    ),
                ],
                className="panel",
            ),
            html.Section([html.H2("Runs"), html.Div(id="system-runs")], className="panel"),
            html.Div([_stages(), _gaps()], className="pair"),
            _fingerprints(),
        ],
        id="system-page",
        className="stacked",
    )


def _stages():
    return html.Section(
        [
            html.H2("Where a snapshot's time goes"),
            graph("system-stages-graph", "system-stages", "seconds per stage of the newest snapshots"),
            html.P(id="system-stages-summary", className="summary"),
        ],
        className="panel half",
    )


def _gaps():
    return html.Section(
        [html.H2("Gaps"), html.Div(id="system-gaps", className="scrolled")],
        className="panel half",
    )


def _fingerprints():
    return html.Section(
        [
            html.H2("Fingerprints"),
            html.Div(id="system-fingerprints", className="table-frame"),
            html.P("Two reports are comparable only where a layer's fingerprint is the same.", className="summary"),
        ],
        className="panel",
    )
