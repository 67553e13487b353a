"""The list of runs' callbacks."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State
from dash.exceptions import PreventUpdate

from dashboard import view as where
from dashboard.callbacks.reply import Reply
from dashboard.components import runs_grid as grid
from dashboard.data import Source
from dashboard.listing import Listing


def register(app: Dash, source: Source) -> None:
    """Adds the page's callbacks."""
    listing = Listing(source)

    @app.callback(
        Output("runs-grid", "rowData"),
        Output("runs-counts", "children"),
        Output("runs-sent", "data"),
        Input("runs-now", "data"),
        State("url", "pathname"),
        State("runs-sent", "data"),
    )
    def listed(now: dict[str, Any] | None, pathname: str, sent: dict[str, Any] | None):
        if where.parse(pathname).page != "runs":
            raise PreventUpdate
        rows, reply = listing.rows(), Reply(sent, now)
        shown = [grid.grid_row(row) for row in rows]
        said = grid.counts_sentence(rows)
        return (
            reply.part("rows", [list(row.values()) for row in shown], lambda: shown),
            reply.part("counts", said, lambda: said),
            reply.sent(),
        )

    @app.callback(Output("runs-compare", "children"), Input("runs-grid", "selectedRows"))
    def chosen(selected: list[dict[str, Any]] | None):
        return grid.compare_link(selected)
