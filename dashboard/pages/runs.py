"""The list of runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dash import dcc, html

from cm_server.report import RunInfo
from dashboard import view as where
from dashboard.view import View


def page(runs: Sequence[RunInfo], now: float | None = None):
    """All runs, newest first."""
    now = time.time() if now is None else now
    head = html.Tr(
        [html.Th(name, scope="col") for name in ("run", "state", "model", "encoder", "detector", "sample", "last news")]
    )
    return html.Section(
        [
            html.H1("Runs"),
            html.Table([html.Thead(head), html.Tbody([_row(run, now) for run in runs])], className="runs"),
        ],
        className="panel runs-page",
        id="runs-page",
    )


def age(seconds: float) -> str:
    """How long ago, in the largest fitting unit.

    >>> age(7200)
    '2 h ago'
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(max(0, seconds))} s ago"


def _row(run: RunInfo, now: float):
    link = dcc.Link(run.name, href=where.url(View(run.run, "overview")))
    cells = [
        html.Span(run.state, className=f"dot {run.state}"),
        run.model or "–",
        run.encoder or "–",
        run.detector or "–",
        run.sample,
        age(now - run.updated),
    ]
    return html.Tr([html.Th(link, scope="row"), *[html.Td(cell) for cell in cells]])
