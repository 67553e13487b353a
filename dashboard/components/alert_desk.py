"""The Alerts page's parts: what fires and what fired, in words; what is silenced; what could not be delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from dash import dcc, html

from cm_server.notices import OPEN_STATES, Letter, Silence
from cm_server.report import Alert
from dashboard import view as where
from dashboard.alert_filter import Wanted, is_open, query
from dashboard.components.age import age
from dashboard.components.aria import aria
from dashboard.theme import SEVERITY_GLYPHS
from dashboard.view import View

SHOWN = 100
"""Alerts listed of each kind; filters reach the others."""
NONE = (
    "No alert in this store yet. Rules watch the deepest layer of every run; `concept-monitor alerts rules` lists them."
)
NONE_OPEN = "Nothing fires."
NONE_WANTED = "No alert matches these filters."
ALL_DELIVERED = "Every notice arrived, or no channel is set up ([notify] in concept-monitor.toml)."
NOT_SILENT = "Nothing is silenced."


def counts_sentence(alerts: Sequence[Alert], wanted: Wanted) -> str:
    """How many alerts there are, in words."""
    kept = [alert for alert in alerts if wanted.keeps(alert)]
    firing = Counter(alert.severity for alert in kept if is_open(alert))
    total = sum(firing.values())
    kinds = ", ".join(f"{firing[name]:,} {name}" for name in ("error", "warning", "info") if firing[name])
    said = f"{total:,} open ({kinds})" if total else "none open"
    hidden = len(alerts) - len(kept)
    return f"{said}, {len(kept) - total:,} past" + (f"; {hidden:,} hidden by the filters" if hidden else "") + "."


def open_list(alerts: Sequence[Alert], wanted: Wanted, names: Mapping[str, str], marks: Mapping[int, str], now: float):
    """Alerts whose condition holds, the worst first."""
    rank = {"error": 0, "warning": 1}
    kept = [alert for alert in alerts if is_open(alert) and wanted.keeps(alert)]
    ordered = sorted(kept, key=lambda alert: (rank.get(alert.severity, 2), -alert.id))
    return _list(ordered, names, marks, now) if ordered else [html.P(_none(alerts, wanted), className="quiet")]


def past_list(alerts: Sequence[Alert], wanted: Wanted, names: Mapping[str, str], marks: Mapping[int, str], now: float):
    """Alerts that are over, newest first."""
    kept = [alert for alert in alerts if not is_open(alert) and wanted.keeps(alert)]
    return _list(kept, names, marks, now) if kept else [html.P("None.", className="quiet")]


def _none(alerts: Sequence[Alert], wanted: Wanted) -> str:
    if not alerts:
        return NONE
    return NONE_WANTED if any(is_open(alert) for alert in alerts) and wanted != Wanted() else NONE_OPEN


def _list(alerts: Sequence[Alert], names: Mapping[str, str], marks: Mapping[int, str], now: float) -> list:
    items = [
        html.Li(_item(alert, names, marks.get(alert.id, ""), now), className=f"alert {_word(alert.severity)}")
        for alert in alerts[:SHOWN]
    ]
    rest = len(alerts) - SHOWN
    return [
        html.Ul(items, className="alerts"),
        *(
            [html.P(f"and {rest:,} older ones: filter by run or rule to see them.", className="quiet")]
            if rest > 0
            else []
        ),
    ]


def _item(alert: Alert, names: Mapping[str, str], mark: str, now: float) -> list:
    target = View(alert.run, "overview", alert.layer or None, max(0, alert.step), None)
    name = names.get(alert.run, alert.run)
    head = [
        html.Span(
            [html.Span(SEVERITY_GLYPHS.get(alert.severity, "●"), **aria(hidden="true")), f" {alert.severity}"],
            className="severity",
        ),
        html.Span(alert.rule, className="rule"),
        dcc.Link(name, href=f"/alerts{query(Wanted(run=alert.run))}", title="Only this run's"),
        html.Span(alert.layer or "the run as a whole", className="code"),
        dcc.Link(f"step {alert.step:,}", href=where.url(target), className="step", title="The run at that step"),
        html.Span(lifetime(alert, now), className="state"),
    ]
    return [
        html.Div(head, className="alert-head"),
        html.P(alert.message, className="alert-text"),
        *([html.P(mark, className="quiet alert-mark")] if mark else []),
        *([_buttons(alert, name)] if alert.state in OPEN_STATES else []),
    ]


def _buttons(alert: Alert, name: str):
    about = f"{alert.rule} in {name}"
    return html.Div(
        [
            html.Button(
                "Acknowledge…",
                id={"type": "order-ack", "alert": alert.id},
                className="small-button",
                **aria(label=f"Acknowledge {about}"),
            ),
            html.Button(
                "Silence…",
                id={"type": "order-silence", "alert": alert.id},
                className="small-button",
                **aria(label=f"Silence {about}"),
            ),
        ],
        className="alert-buttons",
    )


def lifetime(alert: Alert, now: float) -> str:
    """An alert's state and times, in words."""
    began = age(max(0.0, now - alert.opened))
    if alert.state == "firing":
        return f"firing since {began.removesuffix(' ago')}"
    if alert.state == "recovering":
        return f"recovering; fired {began}"
    if is_open(alert):
        return f"{alert.state}; first seen {began}"
    how = "ended with the run" if alert.state == "ended" else alert.state
    return f"{how} {age(max(0.0, now - alert.updated))}, after {_lasted(alert.updated - alert.opened)}"


def _lasted(seconds: float) -> str:
    return age(max(0.0, seconds)).removesuffix(" ago")


def silences_list(silences: Sequence[Silence], names: Mapping[str, str]) -> list:
    """What is kept quiet, until when, by whom, with a way to end it."""
    if not silences:
        return [html.P(NOT_SILENT, className="quiet")]
    return [html.Ul([html.Li(_silence(one, names)) for one in silences], className="plain-list")]


def _silence(one: Silence, names: Mapping[str, str]) -> list:
    said = {name: names.get(value, value) if name == "run" else value for name, value in one.matchers.items()}
    what = ", ".join(f"{name} {value}" for name, value in said.items())
    until = datetime.fromtimestamp(one.expires).strftime("%d %b %H:%M")
    by = f" by {one.author}" if one.author else ""
    return [
        html.Div([html.B(what), f" until {until}{by}"]),
        *([html.Div(one.note, className="quiet")] if one.note else []),
        html.Button(
            "End it",
            id={"type": "order-unsilence", "silence": one.id},
            className="small-button",
            **aria(label=f"End the silence of {what}"),
        ),
    ]


def deliveries_list(failed: Sequence[Letter], struggling: Sequence[Letter], names: Mapping[str, str]) -> list:
    """Notices that did not arrive: given up, or still being tried."""
    if not failed and not struggling:
        return [html.P(ALL_DELIVERED, className="quiet")]
    items = [html.Li(_letter(one, names, "given up"), className="failed") for one in failed[-SHOWN:][::-1]]
    items += [html.Li(_letter(one, names, "not there yet")) for one in struggling[:SHOWN]]
    again = [html.Button("Try all again", id={"type": "order-replay", "all": True}, className="small-button")]
    return [html.Ul(items, className="plain-list"), *(again if failed else [])]


def _letter(letter: Letter, names: Mapping[str, str], state: str) -> list:
    notice = letter.notice
    about = ", ".join(dict.fromkeys(f"{item.alert.rule} {item.status}" for item in notice.items))
    when = datetime.fromtimestamp(notice.created).strftime("%d %b %H:%M")
    tries = "1 try" if letter.attempts == 1 else f"{letter.attempts:,} tries"
    return [
        html.Div([html.B(notice.channel), f" {when}: {names.get(notice.run, notice.run)}, {about}"]),
        html.Div(f"{state} after {tries}: {letter.error or 'no reason given'}", className="reason"),
    ]


def _word(severity: str) -> str:
    return severity if severity in SEVERITY_GLYPHS else "info"
