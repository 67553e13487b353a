"""Pages without data: each says why, and what to do."""

from __future__ import annotations

from dash import html

from cm_server.report import RunInfo
from dashboard import status
from dashboard.components.aria import aria, data

TWO_LINES = "import cm_client\nmonitor = cm_client.watch(model)"


def no_runs(server_known: bool):
    """No run in the store: the two lines to copy, and the server's command if there is none yet."""
    start = (
        []
        if server_known
        else [
            html.P("No server has written to this store yet. Start one:"),
            _to_copy("concept-monitor up"),
        ]
    )
    return _page(
        "No runs yet",
        [
            *start,
            html.P("Add two lines to a training script; its run appears here by itself:"),
            _to_copy(TWO_LINES),
            html.P(
                "monitor.log(loss=…, accuracy=…) adds curves. Without a server the script trains on untouched.",
                className="quiet",
            ),
        ],
    )


def no_such_run(run: str):
    """The address names a run that the store does not have."""
    return _page(
        "No such run",
        [
            html.P(
                [
                    "The store has no run ",
                    html.Code(run),
                    ". Choose another above, or wait: it appears here if it comes.",
                ]
            )
        ],
    )


def no_such_page():
    """The address names no page."""
    return _page("No such page", [html.P("The address leads nowhere. The mark on the upper left leads to the runs.")])


def waiting(info: RunInfo):
    """A run without a snapshot: what the server is doing, with its progress."""
    done = status.progress(info.activity)
    bar = (
        []
        if done is None
        else [
            html.Div(
                html.Span(style={"width": f"{100 * done:.1f}%"}),
                className="progress",
                role="progressbar",
                **aria(valuenow=str(round(100 * done)), valuemin="0", valuemax="100", label="Progress"),
            )
        ]
    )
    return _page("Waiting for the first snapshot", [html.P(status.waiting_sentence(info)), *bar])


def _to_copy(text: str):
    """Lines to copy, with a button that does it (``assets/panel.js``)."""
    return html.Div(
        [html.Pre(text, tabIndex=0), html.Button("Copy", className="tool", **data(copy=text))], className="to-copy"
    )


def _page(title: str, children: list):
    return html.Section([html.H1(title), *children], className="empty")
