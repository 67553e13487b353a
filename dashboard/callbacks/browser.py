"""What the browser does by itself: the functions of ``assets/page.js``, wired to the components."""

from __future__ import annotations

from dash import ClientsideFunction, Dash, Input, Output, State

CHOICES = (
    ("left_run", "compare-left-run", "value"),
    ("right_run", "compare-right-run", "value"),
    ("compare_layer", "compare-layer", "value"),
    ("swap", "compare-swap", "n_clicks"),
    ("filter_run", "alerts-run", "value"),
    ("filter_rule", "alerts-rule", "value"),
    ("filter_state", "alerts-state", "value"),
    ("filter_severity", "alerts-severity", "value"),
    ("ordered", "alerts-ordered", "data"),
    ("found_runs", "runs-find", "value"),
    ("sorted_runs", "runs-grid", "columnState"),
    ("filtered_runs", "runs-grid", "filterModel"),
    ("searched", "concepts-q", "value"),
    ("since_wanted", "concepts-since", "value"),
    ("anchored", "anchors-ordered", "data"),
    ("tau_wanted", "evolution-taus", "value"),
    ("temperatures_wanted", "evolution-temperatures", "value"),
    ("anchors_wanted", "evolution-anchors", "value"),
)
"""Choices on the pages of places.js: each becomes a part of the address."""


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
    pages = ("overview", "map", "evolution", "compare", "alerts", "system", "runs", "neuron", "concepts")
    for store in ("shown", "frame-sent", *[f"{page}-sent" for page in pages]):
        wire("drawn_" + store.split("-")[0], Input(store, "data"), initial=False)
    for name, component, value in CHOICES:
        wire(name, Input(component, value), initial=False)
    for side in ("left", "right"):  # a slider's end means "the newest"
        step = f"compare-{side}-step"
        wire(f"{side}_step", Input(step, "value"), State(step, "max"), initial=False)
