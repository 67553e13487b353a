"""The list of runs: a grid to sort, filter and select in."""

from __future__ import annotations

from typing import Any, cast

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.components.aria import aria
from dashboard.components.runs_grid import columns


def page():
    """The page's frame."""
    return html.Section(
        [
            dcc.Store(id="runs-now"),
            dcc.Store(id="runs-sent"),
            html.Div(
                [
                    html.H1("Runs", className="page-title"),
                    html.Span(id="runs-counts", className="quiet"),
                    html.Span(className="grow"),
                    html.Span(id="runs-compare", **aria(live="polite")),
                    dmc.TextInput(
                        id="runs-find", placeholder="find", size="xs", w=180, debounce=300, **aria(label="Find runs")
                    ),
                ],
                className="runs-bar",
            ),
            _grid(),
        ],
        className="panel runs-page",
        id="runs-page",
    )


def _grid():
    return dag.AgGrid(
        id="runs-grid",
        columnDefs=columns(),
        rowData=[],
        getRowId="params.data.run",
        columnSize=None,
        defaultColDef={"sortable": True, "filter": True, "resizable": True, "minWidth": 60},
        dashGridOptions=cast(
            Any,
            {
                "rowSelection": {"mode": "multiRow", "enableClickSelection": False, "headerCheckbox": False},
                "selectionColumnDef": {"width": 44, "minWidth": 44, "resizable": False},
                "rowHeight": 38,
                "headerHeight": 36,
                "animateRows": False,
                "tooltipShowDelay": 300,
                "enableCellTextSelection": True,
                "ensureDomOrder": True,
            },
        ),
        className="runs-grid",
        style={"height": None},
    )
