"""The alerts list."""

from __future__ import annotations

from collections.abc import Sequence

from dash import dcc, html

from cm_server.report import Alert
from dashboard import view as where
from dashboard.components.aria import aria
from dashboard.theme import SEVERITY_GLYPHS
from dashboard.view import View

OPEN = ("pending", "firing", "recovering")
NONE = "No alert so far. Rules watch the deepest layer; what they find is listed here and marked on the curve."
SHOWN = 40


def alerts_list(alerts: Sequence[Alert], here: View) -> list:
    """One item per alert, newest first; each links to the step at which it opened.

    Args:
        alerts: of one run, newest first.
        here: the current view; links keep its page.
    """
    if not alerts:
        return [html.P(NONE, className="quiet")]
    ordered = sorted(alerts, key=lambda a: a.state not in OPEN)
    items = [html.Li(_alert(alert, here), className=f"alert {_word(alert.severity)}") for alert in ordered[:SHOWN]]
    rest = len(alerts) - SHOWN
    more = [html.P(f"and {rest:,} older ones", className="quiet")] if rest > 0 else []
    return [html.Ul(items, className="alerts"), *more]


def _alert(alert: Alert, here: View) -> list:
    target = View(here.run, here.page, alert.layer or here.layer, max(0, alert.step), None)
    glyph = SEVERITY_GLYPHS.get(alert.severity, "●")
    head = [
        html.Span([html.Span(glyph, **aria(hidden="true")), f" {alert.severity}"], className="severity"),
        html.Span(alert.rule, className="rule"),
        html.Span(alert.layer, className="code"),
        dcc.Link(f"step {alert.step:,}", href=where.url(target), className="step"),
        html.Span(alert.state, className="state"),
    ]
    return [html.Div(head, className="alert-head"), html.P(alert.message, className="alert-text")]


def _word(severity: str) -> str:
    return severity if severity in SEVERITY_GLYPHS else "info"
