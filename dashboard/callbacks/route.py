"""Which page stands in the frame."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, no_update

from cm_server.events import read_discovery
from dashboard import view as where
from dashboard.components import empty
from dashboard.data import Source
from dashboard.pages import alerts, compare, concept_map, concepts, evolution, neuron, overview, runs, system
from dashboard.view import View

PAGES = {
    "overview": overview.page,
    "map": concept_map.page,
    "neuron": neuron.page,
    "concepts": concepts.page,
    "evolution": evolution.page,
}
PLACES = {"compare": compare.page, "alerts": alerts.page, "system": system.page}


def register(app: Dash, source: Source) -> None:
    """Adds the router."""

    @app.callback(
        Output("page", "children"),
        Output("shown", "data"),
        Output("url", "pathname"),
        Input("route-now", "data"),
        State("url", "pathname"),
        State("shown", "data"),
        prevent_initial_call=True,
    )
    def route(now: dict[str, Any], pathname: str, shown: dict[str, Any] | None):
        here = where.parse(pathname)
        moved = only_run(here, source)
        key, make = choose(here, source)
        children = no_update if shown and shown.get("key") == key else make()
        return children, {"key": key, "n": now.get("n", 0)}, moved or no_update


def only_run(here: View, source: Source) -> str | None:
    """Where ``/`` leads: to the overview, if there is but one run."""
    if here.page != "runs":
        return None
    found = source.runs()
    return where.path(View(found[0].run, "overview")) if len(found) == 1 else None


def choose(here: View, source: Source):
    """The page for a view, with a key that changes exactly when the page must be built anew."""
    if here.page == "unknown":
        return ["unknown"], empty.no_such_page
    if here.page in PLACES:
        return [here.page], PLACES[here.page]
    if here.run is None:
        return _runs(source)
    data = source.run(here.run)
    if data is None:
        return ["absent", here.run], lambda: empty.no_such_run(str(here.run))
    if not data.longest():
        return ["waiting", here.run, data.info.state, data.info.activity], lambda: empty.waiting(data.info)
    return [here.page, here.run], PAGES[here.page]


def _runs(source: Source):
    found = source.runs()
    if not found:
        known = read_discovery(source.directory) is not None
        return ["no runs", known], lambda: empty.no_runs(known)
    return ["runs"], runs.page
