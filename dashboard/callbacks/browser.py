"""What the browser does by itself: the functions of ``assets/page.js``, wired to the components."""

from __future__ import annotations

from dash import ClientsideFunction, Dash, Input, Output, State


def register(app: Dash) -> None:
    """Adds the clientside callbacks."""

    def wire(name: str, *arguments: Output | Input | State, initial: bool = True) -> None:
        app.clientside_callback(ClientsideFunction("cm", name), *arguments, prevent_initial_call=not initial)

    wire("theme", Output("theme", "data"), Output("mantine", "forceColorScheme"), Input("scheme", "data"))
    wire("toggle", Output("scheme", "data"), Input("scheme-button", "n_clicks"), State("theme", "data"), initial=False)
    wire("moved", Input("url", "pathname"), Input("url", "search"), Input("theme", "data"))
    wire(
        "chip",
        Output("state-chip", "children"),
        Output("state-chip", "className"),
        Output("state-chip", "title"),
        Input("tick", "n_intervals"),
        Input("status", "data"),
    )
    wire("poll", Input("poll", "n_intervals"), initial=False)
    wire("clock", Input("clock-steps", "data"), initial=False)
    wire("live", Input("live-button", "n_clicks"), initial=False)
    wire("run", Input("run-select", "value"), initial=False)
    wire("layers", Input("layer-select", "data"), initial=False)
    wire("layer", Input("layer-select", "value"), initial=False)
    wire("unit", Input("unit-input", "value"), initial=False)
    for store in ("shown", "frame-sent", "overview-sent", "map-sent"):
        wire("drawn_" + store.split("-")[0], Input(store, "data"), initial=False)
