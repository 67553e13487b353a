"""The clock at the foot of every page of a run: live button, play, the d_anchor strip over a slider, the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dash import dcc, html

from cm_server.report import Alert, Gap
from dashboard.components.aria import aria
from dashboard.figures.curves import Curve

GRAPH = {"displayModeBar": False, "responsive": True, "doubleClick": False, "showTips": False}


def clock():
    """The footer; ``assets/clock.js`` brings it to life."""
    strip = dcc.Graph(id="strip-graph", figure={"data": [], "layout": {}}, config=cast(Any, GRAPH), className="strip")
    slider = html.Div(id="clock-slider", className="slider")  # assets/clock.js puts a native slider into it
    return html.Footer(
        [
            html.Button("● Live", id="live-button", className="follow on", title="Follow the newest snapshot (L)"),
            html.Button(
                "▶",
                id="play-button",
                className="icon",
                title="Play the run from here to its end (Space)",
                **aria(label="Play the run"),
            ),
            html.Div(
                [html.Div(strip, className="strip-frame", **aria(hidden="true")), slider], className="clock-middle"
            ),
            html.Div("", id="clock-label", className="clock-label", role="status"),
            html.P("", id="strip-summary", className="unseen"),
        ],
        className="clock",
        id="clock",
        **aria(label="Clock", describedby="strip-summary"),
    )


def strip_sentence(layer: str, one: Curve, alerts: Sequence[Alert], gaps: Sequence[Gap]) -> str:
    """The strip in words, for those who do not see it."""
    if not len(one.steps):
        return "No snapshot yet."
    first, last = int(one.steps.min()), int(one.steps.max())
    said = [f"{len(one.steps):,} snapshots of {layer} from step {first:,} to {last:,}"]
    said += [counted(len(gaps), "lost capture") + _at(gap.step for gap in gaps)] if gaps else []
    said += [counted(len(alerts), "alert") + _at(alert.step for alert in alerts)] if alerts else []
    return ", ".join(said) + ". The arrow keys move through them; Space plays; L follows live."


def counted(number: int, what: str) -> str:
    """A number with its noun.

    >>> counted(1, "alert"), counted(2, "alert")
    ('1 alert', '2 alerts')
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _at(steps) -> str:
    found = sorted(set(steps))
    named = ", ".join(f"{step:,}" for step in found[:5])
    return f" (step {named}{', …' if len(found) > 5 else ''})"
