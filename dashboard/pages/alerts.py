"""Alerts: what fires and what fired in all runs, with what people and channels did about it."""

from __future__ import annotations

from typing import Any, cast

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.alert_filter import SEVERITIES, STATES
from dashboard.components.aria import aria
from dashboard.orders import DURATIONS, SCOPES


def page():
    """The page's frame."""
    return html.Div(
        [
            dcc.Store(id="alerts-now"),
            dcc.Store(id="alerts-sent"),
            dcc.Store(id="alerts-ordered"),
            dcc.Store(id="order-about"),
            html.Section(
                [
                    html.H1("Alerts", className="page-title"),
                    _filters(),
                    html.P(id="alerts-counts", className="summary"),
                ],
                className="panel",
            ),
            html.Div([_lists(), _side()], className="columns"),
            _dialog(),
        ],
        id="alerts-page",
        className="stacked",
    )


def _filters():
    run = dmc.Select(
        id="alerts-run", data=[], placeholder="all runs", searchable=True, clearable=True, size="xs", w=220,
        comboboxProps={"zIndex": 400}, **aria(label="Only this run"),
    )  # fmt: skip
    rule = dmc.Select(
        id="alerts-rule", data=[], placeholder="all rules", searchable=True, clearable=True, size="xs", w=180,
        comboboxProps={"zIndex": 400}, **aria(label="Only this rule"),
    )  # fmt: skip
    state = dmc.SegmentedControl(
        id="alerts-state", data=[{"value": s, "label": s} for s in STATES], value="any", size="xs",
        **aria(label="Open or past"),
    )  # fmt: skip
    severity = dmc.SegmentedControl(
        id="alerts-severity", data=[{"value": s, "label": s} for s in SEVERITIES], value="any", size="xs",
        **aria(label="Lowest severity"),
    )  # fmt: skip
    return html.Div(
        [
            run,
            rule,
            html.Label(["state", state], className="layer-choice"),
            html.Label(["at least", severity], className="layer-choice"),
        ],
        className="filters",
    )


def _lists():
    return html.Div(
        [
            html.Section([html.H2("Open"), html.Div(id="alerts-open", **aria(live="polite"))], className="panel"),
            html.Section([html.H2("Past"), html.Div(id="alerts-past")], className="panel"),
        ],
        className="column main",
    )


def _side():
    return html.Div(
        [
            html.Div(id="order-result", className="order-result", role="status"),
            html.Section([html.H2("Not delivered"), html.Div(id="alerts-deliveries")], className="panel"),
            html.Section(
                [
                    html.H2("Silenced"),
                    html.Div(id="alerts-silences"),
                    html.P("Silenced alerts are still found and listed; they are only not sent.", className="summary"),
                ],
                className="panel",
            ),
        ],
        className="column side",
    )


def _dialog():
    """Acknowledging and silencing, in one dialog: which of the two is in ``order-about``."""
    silence = html.Div(
        [
            dmc.RadioGroup(
                [dmc.Radio(label=text, value=name, size="xs") for name, text in SCOPES.items()],
                id="order-scope",
                value="alert",
                label="what is kept quiet",
                size="xs",
            ),
            dmc.Select(
                id="order-duration",
                data=[{"value": str(seconds), "label": name} for name, seconds in DURATIONS.items()],
                value=str(DURATIONS["2 hours"]),
                label="for",
                size="xs",
                allowDeselect=False,
                comboboxProps={"zIndex": 700},
            ),
        ],
        id="order-silence-fields",
    )
    return dmc.Modal(
        [
            html.P(id="order-text", className="alert-text"),
            silence,
            dmc.Textarea(id="order-note", label="note", placeholder="what others should know", size="xs"),
            dmc.TextInput(
                id="order-author",
                label="your name",
                size="xs",
                persistence=True,
                persistence_type="local",
            ),
            html.P(id="order-problem", className="order-problem", role="alert"),
            html.Div(
                html.Button("Acknowledge", id="order-submit", className="primary-button"), className="dialog-buttons"
            ),
        ],
        id="order-dialog",
        opened=False,
        title="",
        zIndex=600,
        size="md",
        centered=True,
        closeButtonProps=cast(Any, {"aria-label": "Close"}),
    )
