"""The Alerts page's callbacks: the lists, and what people order."""

from __future__ import annotations

from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from dashboard import alert_filter as filters
from dashboard import orders
from dashboard import view as where
from dashboard.alert_filter import Wanted
from dashboard.callbacks.reply import Reply
from dashboard.components import alert_desk as words
from dashboard.components.alerts import marks_of
from dashboard.data import Source
from dashboard.desk import Desk, DeskData

_MINUTE = 60
OUTPUTS = (
    Output("alerts-run", "data"),
    Output("alerts-run", "value"),
    Output("alerts-rule", "data"),
    Output("alerts-rule", "value"),
    Output("alerts-state", "value"),
    Output("alerts-severity", "value"),
    Output("alerts-counts", "children"),
    Output("alerts-open", "children"),
    Output("alerts-past", "children"),
    Output("alerts-silences", "children"),
    Output("alerts-deliveries", "children"),
    Output("alerts-sent", "data"),
)


def register(app: Dash, source: Source) -> None:
    """Adds the page's callbacks."""
    desk = Desk(source)

    @app.callback(
        OUTPUTS,
        Input("alerts-now", "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("alerts-sent", "data"),
    )
    def listed(now: dict[str, Any] | None, pathname: str, search: str, sent: dict[str, Any] | None):
        if where.parse(pathname).page != "alerts":
            raise PreventUpdate
        return _draw(filters.parse(search), desk.read(), Reply(sent, now))

    _register_dialog(app, desk)
    _register_orders(app, source, desk)


def _draw(wanted: Wanted, data: DeskData, reply: Reply) -> tuple:
    marks = marks_of(data.alerts, data.acknowledged, data.silences, data.read_at)
    minute = int(data.read_at // _MINUTE)  # the ages in the lists go on
    names = sorted(data.names.items())
    key = [[a.id, a.state, a.severity, a.updated, marks.get(a.id)] for a in data.alerts]
    wish = [wanted.run, wanted.state, wanted.severity, wanted.rule]
    runs = [{"value": run, "label": name} for run, name in data.names.items()]
    rules = sorted({alert.rule for alert in data.alerts} | ({wanted.rule} if wanted.rule else set()))
    lists = data.alerts, wanted, data.names, marks, data.read_at
    letters = [[letter.key, letter.state, letter.attempts] for letter in (*data.failed, *data.struggling)]
    return (
        reply.part("runs", names, lambda: runs),
        reply.part("run", wanted.run, lambda: wanted.run),
        reply.part("rules", rules, lambda: rules),
        reply.part("rule", wanted.rule, lambda: wanted.rule),
        reply.part("state", wanted.state, lambda: wanted.state),
        reply.part("severity", wanted.severity, lambda: wanted.severity),
        reply.part("counts", [key, wish], lambda: words.counts_sentence(data.alerts, wanted)),
        reply.part("open", [key, wish, names, minute], lambda: words.open_list(*lists)),
        reply.part("past", [key, wish, names, minute], lambda: words.past_list(*lists)),
        reply.part(
            "silences",
            [[s.id, s.expires] for s in data.silences],
            lambda: words.silences_list(data.silences, data.names),
        ),
        reply.part("deliveries", letters, lambda: words.deliveries_list(data.failed, data.struggling, data.names)),
        reply.sent(),
    )


def _register_dialog(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output("order-dialog", "opened"),
        Output("order-dialog", "title"),
        Output("order-text", "children"),
        Output("order-silence-fields", "className"),
        Output("order-submit", "children"),
        Output("order-problem", "children"),
        Output("order-note", "value"),
        Output("order-about", "data"),
        Input({"type": "order-ack", "alert": ALL}, "n_clicks"),
        Input({"type": "order-silence", "alert": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def ask(_acks: list[int | None], _silences: list[int | None]):
        about = ctx.triggered_id
        if not isinstance(about, dict) or not any(one["value"] for one in ctx.triggered):
            raise PreventUpdate  # the list was only drawn anew
        alert = desk.read().alert(int(about["alert"]))
        if alert is None:
            raise PreventUpdate
        silences = about["type"] == "order-silence"
        title = f"{'Silence' if silences else 'Acknowledge'} {alert.rule}"
        said = (
            alert.message
            if silences
            else f"{alert.message} Acknowledged, it is not repeated; that it gets worse or is over is still told."
        )
        return (
            True,
            title,
            said,
            "fields" if silences else "hidden",
            "Silence" if silences else "Acknowledge",
            "",
            "",
            {"do": "silence" if silences else "ack", "alert": alert.id},
        )


def _register_orders(app: Dash, source: Source, desk: Desk) -> None:
    @app.callback(
        Output("order-dialog", "opened", allow_duplicate=True),
        Output("order-problem", "children", allow_duplicate=True),
        Output("order-result", "children"),
        Output("alerts-ordered", "data"),
        Input("order-submit", "n_clicks"),
        State("order-about", "data"),
        State("order-scope", "value"),
        State("order-duration", "value"),
        State("order-note", "value"),
        State("order-author", "value"),
        prevent_initial_call=True,
    )
    def submit(clicks: int | None, about: dict[str, Any] | None, scope: str, seconds: str, note: str, author: str):
        if not clicks or not about:
            raise PreventUpdate
        try:
            said = _order(source, desk, about, scope, float(seconds), note or "", author or "")
        except orders.OrderError as error:
            return no_update, str(error), no_update, no_update
        return False, "", said, clicks

    @app.callback(
        Output("order-result", "children", allow_duplicate=True),
        Output("alerts-ordered", "data", allow_duplicate=True),
        Input({"type": "order-unsilence", "silence": ALL}, "n_clicks"),
        Input({"type": "order-replay", "all": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def undo(_ends: list[int | None], _replays: list[int | None]):
        about = ctx.triggered_id
        if not isinstance(about, dict) or not any(one["value"] for one in ctx.triggered):
            raise PreventUpdate
        ends = about["type"] == "order-unsilence"
        command = orders.unsilence(str(about["silence"])) if ends else orders.replay()
        try:
            answer = orders.carry_out(source.directory, command)
        except orders.OrderError as error:
            return str(error), no_update
        desk.forget()
        said = "The silence is over." if ends else f"Tried again: {len(answer.get('replayed', [])):,}."
        return said, str(about)


def _order(
    source: Source, desk: Desk, about: dict[str, Any], scope: str, seconds: float, note: str, author: str
) -> str:
    """Acknowledges or silences; returns what was done, in words."""
    alert = desk.read().alert(int(about["alert"]))
    if alert is None:
        raise orders.OrderError("This alert is no longer in the store.")
    if about["do"] == "ack":
        orders.carry_out(source.directory, orders.acknowledge(alert.id, author, note))
        said = f"{alert.rule} of step {alert.step:,} is acknowledged."
    else:
        orders.carry_out(source.directory, orders.silence(alert, scope, seconds, author, note))
        said = f"{orders.SCOPES[scope].capitalize()} is silenced."
    desk.forget()
    return said
