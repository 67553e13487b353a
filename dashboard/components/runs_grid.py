"""The list of runs as a grid: columns, rows, and what the selection leads to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from cm_server.report import RunInfo
from dashboard import comparison
from dashboard import view as where
from dashboard.comparison import Comparison, Side
from dashboard.listing import RunRow
from dashboard.view import View

STATES = {
    "running": "running",
    "waiting": "waiting for its first snapshot",
    "finished": "the training script ended it",
    "failed": "training ended with an exception",
    "lost": "the training process fell silent",
}
NUMBERS = "agNumberColumnFilter"
TEXT = "agTextColumnFilter"


def columns() -> list[dict[str, Any]]:
    """The grid's columns; the renderers are in ``assets/runs_grid.js``."""
    return [
        {
            "field": "name",
            "headerName": "run",
            "cellRenderer": "CmRunLink",
            "filter": TEXT,
            "minWidth": 180,
            "flex": 2,
        },
        {"field": "state", "headerName": "state", "cellRenderer": "CmState", "filter": TEXT, "width": 116}
        | {"tooltipField": "state_note"},
        _number("step", 84, "step", note="of the newest snapshot"),
        {
            "field": "line",
            "headerName": "d_anchor",
            "headerTooltip": "over the steps, of the deepest layer, since its settings changed last",
            "cellRenderer": "CmSparkline",
            "sortable": False,
            "filter": False,
            "minWidth": 130,
            "flex": 1,
        },
        _number("d_anchor", 84, "now", digits=4, note="d_anchor of the deepest layer; lower is more diverse"),
        _number("change", 96, "change", note="of d_anchor since its start", suffix=" %", digits=1, sign=True),
        _number("interpretable", 118, "interpretable", note="share of the layer's units", suffix=" %"),
        _number("alerts", 112, "open alerts"),
        {
            "field": "moved",
            "headerName": "last news",
            "cellRenderer": "CmAge",
            "filter": False,
            "width": 108,
            "sortingOrder": ["desc", "asc", None],
        },
        {"field": "tags", "headerName": "tags", "cellRenderer": "CmTags", "filter": TEXT, "minWidth": 90, "flex": 1},
        {
            "field": "layer",
            "headerName": "layer",
            "width": 92,
            "headerTooltip": "the deepest one: the figures are of it",
        }
        | {"suppressHeaderFilterButton": True},
    ]


def _number(
    field: str, width: int, name: str, note: str = "", suffix: str = "", digits: int = 0, sign: bool = False
) -> dict[str, Any]:
    shown = {"suffix": suffix, "digits": digits, "sign": sign}
    found = {"field": field, "headerName": name, "width": width, "filter": NUMBERS, "type": "rightAligned"}
    found["suppressHeaderFilterButton"] = True
    return found | {"cellRenderer": "CmNumber", "cellRendererParams": shown} | ({"headerTooltip": note} if note else {})


def grid_row(row: RunRow) -> dict[str, Any]:
    """A run as the grid has it: plain JSON, one value per column; ``run`` is its identity."""
    info = row.info
    change = None
    if row.d_anchor is not None and row.start:
        change = round(100 * (row.d_anchor - row.start) / row.start, 2)
    return {
        "run": info.run,
        "name": info.name,
        "href": where.url(View(info.run, "overview")),
        "about": " · ".join(part for part in (info.run, info.model, info.encoder, info.detector) if part),
        "state": info.state,
        "state_note": info.activity or STATES.get(info.state, info.state),
        "step": row.step,
        "line": [list(point) for point in row.line],
        "d_anchor": row.d_anchor,
        "change": change,
        "interpretable": None if row.interpretable is None else round(100 * row.interpretable, 1),
        "alerts": row.alerts,
        "alerts_href": f"/alerts?run={info.run}",
        "moved": row.moved,
        "tags": ", ".join(tags_of(info)),
        "layer": row.layer,
    }


def tags_of(info: RunInfo) -> tuple[str, ...]:
    """A person's words for a run."""
    return tuple(str(tag) for tag in info.tags)


def counts_sentence(rows: Sequence[RunRow]) -> str:
    """The list in words."""
    running = sum(row.info.state == "running" for row in rows)
    alerts = sum(row.alerts for row in rows)
    several = "s" if len(rows) != 1 else ""
    open_ones = f"{alerts:,} open alert{'s' if alerts != 1 else ''}" if alerts else "no open alert"
    return f"{len(rows):,} run{several}, {running:,} running, {open_ones}."


def compare_link(selected: Sequence[Mapping[str, Any]] | None):
    """What the selection leads to: with two or more runs the Compare page, else what is missing."""
    runs = tuple(dict.fromkeys(str(one["run"]) for one in selected or ()))
    if len(runs) < 2:
        missing = "Select two or more runs to compare them." if not runs else "Select one more run to compare."
        return html.Span(missing, className="quiet")
    shown = runs[: comparison.MOST]
    target = comparison.url(Comparison((Side(shown[0]), Side(shown[1])), shown[2:]))
    rest = f" (of {len(runs)})" if len(runs) > len(shown) else ""
    return dcc.Link(f"Compare {len(shown)} runs{rest}", href=target, className="primary-button", id="runs-compare-link")
