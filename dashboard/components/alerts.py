"""The alerts list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dash import dcc, html

from cm_server.notices import OPEN_STATES, Acknowledgement, Silence
from cm_server.report import Alert
from dashboard import view as where
from dashboard.components.aria import aria
from dashboard.theme import SEVERITY_GLYPHS
from dashboard.view import View

OPEN = ("pending", *OPEN_STATES)
NONE = "No alert so far. Rules watch the deepest layer; what they find is listed here and marked on the curve."
SHOWN = 40


def alerts_list(alerts: Sequence[Alert], here: View, marks: Mapping[int, str] | None = None) -> list:
    """One item per alert, newest first; each links to the step at which it opened.

    Args:
        alerts: of one run, newest first.
        here: the current view; links keep its page.
        marks: by alert id, who has seen it and what keeps it quiet, as :func:`marks_of` says it.
    """
    said = marks or {}
    if not alerts:
        return [html.P(NONE, className="quiet")]
    ordered = sorted(alerts, key=lambda a: a.state not in OPEN)
    items = [
        html.Li(_alert(alert, here, said.get(alert.id, "")), className=f"alert {_word(alert.severity)}")
        for alert in ordered[:SHOWN]
    ]
    rest = len(alerts) - SHOWN
    more = [html.P(f"and {rest:,} older ones", className="quiet")] if rest > 0 else []
    return [html.Ul(items, className="alerts"), *more]


def marks_of(
    alerts: Sequence[Alert], acknowledged: Mapping[int, Acknowledgement], silences: Sequence[Silence], now: float
) -> dict[int, str]:
    """What people did about alerts, in words, by alert id; alerts nobody did anything about are not in it.

    Args:
        alerts: of one run.
        acknowledged: by alert id.
        silences: those that may be in force.
        now: seconds since 1970.
    """
    said = {}
    for alert in alerts:
        silence = next((s for s in silences if s.covers(alert, now)), None) if alert.state in OPEN else None
        parts = [_seen(acknowledged[alert.id])] if alert.id in acknowledged else []
        parts += [_silenced(silence)] if silence is not None else []
        if parts:
            said[alert.id] = " · ".join(parts)
    return said


def _seen(ack: Acknowledgement) -> str:
    by = f"acknowledged by {ack.author or 'somebody'}, not repeated"
    return f"{by}: {ack.note}" if ack.note else by


def _silenced(silence: Silence) -> str:
    until = datetime.fromtimestamp(silence.expires).strftime("%d %b %H:%M")
    return f"silenced until {until}, not sent" + (f": {silence.note}" if silence.note else "")


def _alert(alert: Alert, here: View, mark: str = "") -> list:
    target = View(here.run, here.page, alert.layer or here.layer, max(0, alert.step), None)
    glyph = SEVERITY_GLYPHS.get(alert.severity, "●")
    head = [
        html.Span([html.Span(glyph, **aria(hidden="true")), f" {alert.severity}"], className="severity"),
        html.Span(alert.rule, className="rule"),
        html.Span(alert.layer, className="code"),
        dcc.Link(f"step {alert.step:,}", href=where.url(target), className="step"),
        html.Span(alert.state, className="state"),
    ]
    body = [html.Div(head, className="alert-head"), html.P(alert.message, className="alert-text")]
    return [*body, html.P(mark, className="quiet alert-mark")] if mark else body


def _word(severity: str) -> str:
    return severity if severity in SEVERITY_GLYPHS else "info"
