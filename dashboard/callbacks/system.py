"""The System page's callback."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State
from dash.exceptions import PreventUpdate

from dashboard import theme as look
from dashboard import view as where
from dashboard.callbacks.reply import Reply
from dashboard.components import system as words
from dashboard.data import Source
from dashboard.figures.stages import stages
from dashboard.health import Health, RunHealth, SystemData

OUTPUTS = (
    Output("system-server", "children"),
    Output("system-facts", "children"),
    Output("system-runs", "children"),
    Output("system-stages-graph", "figure"),
    Output("system-stages-summary", "children"),
    Output("system-gaps", "children"),
    Output("system-fingerprints", "children"),
    Output("system-versions", "children"),
    Output("system-sent", "data"),
)


def register(app: Dash, source: Source) -> None:
    """Adds the page's callback."""
    health = Health(source)

    @app.callback(
        OUTPUTS,
        Input("system-now", "data"),
        State("url", "pathname"),
        State("theme", "data"),
        State("system-sent", "data"),
    )
    def system(now: dict[str, Any] | None, pathname: str, theme: str, sent: dict[str, Any] | None):
        if where.parse(pathname).page != "system":
            raise PreventUpdate
        return _draw(health.read(), silence_of(now), look.theme(theme), Reply(sent, now))


def silence_of(now: dict[str, Any] | None) -> float | None:
    """Seconds since the browser's dashboard heard the server, as the page sent it; None: never."""
    value = (now or {}).get("silence")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _draw(data: SystemData, silence: float | None, theme: look.Theme, reply: Reply) -> tuple:
    names = {run.info.run: run.info.name for run in data.runs}
    focus = _focus(data)
    facts = [data.server.pid, data.server.started, data.server.version, data.store.arrays, data.store.free // 2**27]
    second = round(data.read_at)
    newest = [[run.info.run, run.data.longest()[-1].sequence if run.data.longest() else 0] for run in data.runs]
    return (
        words.server_sentence(data.server, silence, data.read_at),
        reply.part("facts", facts, lambda: words.server_facts(data.server, data.store)),
        reply.part("runs", second, lambda: words.runs_table(data.runs, data.others, data.read_at)),
        reply.figure("stages", stages(focus.recent if focus else [], theme, focus.info.run if focus else "")),
        reply.part("stages text", newest, lambda: words.stages_sentence(focus)),
        reply.part(
            "gaps", [[g.run, g.step, g.time] for g in data.gaps] + [second // 60],
            lambda: words.gaps_list(data.gaps, names, data.read_at),
        ),
        reply.part("fingerprints", newest, lambda: words.fingerprints_table(data.runs)),
        reply.part("versions", list(data.versions.values()), lambda: words.versions_table(data.versions)),
        reply.sent(),
    )  # fmt: skip


def _focus(data: SystemData) -> RunHealth | None:
    """The run whose stage times are drawn: the first with any snapshot."""
    return next((run for run in data.runs if run.recent), None)
