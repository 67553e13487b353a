"""A chart in its panel: the plot, its name for screen readers, its table twin, and what can be saved of it."""

from __future__ import annotations

from typing import Any, cast

from dash import dcc, html

from dashboard.components.aria import aria, data

GRAPH = {"displayModeBar": False, "responsive": True, "doubleClick": "reset", "showTips": False}
"""Settings of every plot: no toolbar, so no button that would send a chart to a web service."""
EMPTY = {"data": [], "layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}}}


def graph(name: str, size: str, label: str, table: str = "", told: str = "", **config):
    """A plot in a frame, with the buttons that ``assets/panel.js`` answers.

    Args:
        name: the plot's id.
        size: a class of ``style.css`` that sets its height.
        label: what it shows, for screen readers and as the title of a saved picture.
        table: its table in :mod:`dashboard.export`; empty: the table is made of what is drawn.
        told: id of a hidden element of the page that holds a table in the page's own words, which is shown instead.
        **config: further settings of the plot.
    """
    return html.Div(
        [
            _tools(label),
            html.Div(
                dcc.Graph(id=name, figure=EMPTY, config=cast(Any, GRAPH | config), className="plot"),
                className=f"plot-frame {size}",
                role="img",
                **aria(label=label),
            ),
            html.Div(className="twin"),
        ],
        className=f"chart of-{size}",
        **data(graph=name, table=table, told=told, label=label),
    )


def _tools(label: str):
    saves = [
        _button("csv", "CSV", f"Save the numbers of: {label}"),
        _button("png", "PNG", f"Save as a PNG picture: {label}"),
        _button("svg", "SVG", f"Save as an SVG picture: {label}"),
    ]
    return html.Div(
        [
            _button("table", "Table", f"As a table: {label}", expanded="false"),
            html.Details(
                [html.Summary("Save", **aria(label=f"Save: {label}")), html.Div(saves, className="saves")],
                className="save",
            ),
        ],
        className="chart-tools",
    )


def _button(tool: str, text: str, title: str, **state: str):
    return html.Button(text, title=title, className="tool", **data(tool=tool), **aria(label=title, **state))
