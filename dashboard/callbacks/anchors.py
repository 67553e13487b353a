"""Adding and removing anchors on the Concepts page."""

from __future__ import annotations

from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from dashboard import anchor_orders, lookup
from dashboard import view as where
from dashboard.asking import Answer, Asking
from dashboard.data import Source
from dashboard.orders import OrderError

SAID = {"wanted": "“{}” is a wanted anchor now.", "undesirable": "“{}” is an unwanted anchor now."}


def register(app: Dash, source: Source, asking: Asking) -> None:
    """Adds the callback."""

    @app.callback(
        Output("anchors-result", "children"),
        Output("anchors-ordered", "data"),
        Input({"type": "anchor-add", "wish": ALL}, "n_clicks"),
        Input({"type": "anchor-remove", "word": ALL}, "n_clicks"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def order(_adds: list[int | None], _removals: list[int | None], pathname: str, search: str):
        about = ctx.triggered_id
        if not isinstance(about, dict) or not any(one["value"] for one in ctx.triggered):
            raise PreventUpdate  # the list was only drawn anew
        run = where.parse(pathname).run
        try:
            said = _carry_out(source, asking, run, about, lookup.text_of(search))
        except OrderError as error:
            return str(error), no_update
        source.forget(run)
        return said, {"n": sum(one["value"] or 0 for one in ctx.triggered), "about": about}


def _carry_out(source: Source, asking: Asking, run: str | None, about: dict[str, Any], text: str) -> str:
    """Does it; returns what was done, in words."""
    data = source.run(run)
    if data is None:
        raise OrderError("This run is no longer in the store.")
    if about["type"] == "anchor-remove":
        command = anchor_orders.removal(data.info.run, str(about["word"]))
        anchor_orders.carry_out(source.directory, command, asking.server_lives)
        return f"“{about['word']}” is no anchor any more."
    answer = asking.near(data.info, text)
    if not isinstance(answer, Answer):
        raise OrderError(f"{answer or 'The server is still being asked'}: nothing was changed.")
    wish = str(about["wish"])
    command = anchor_orders.addition(data.info.run, wish, answer)
    anchor_orders.carry_out(source.directory, command, asking.server_lives)
    return SAID.get(wish, "“{}” is an anchor now.").format(answer.text)
