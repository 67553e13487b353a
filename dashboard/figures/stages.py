"""Where a snapshot's time goes, from the capture in the training process to the row in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cm_server.report import SnapshotInfo
from dashboard import theme as look
from dashboard.theme import Theme

SEND = "to the server"
WAIT = "waiting and commit"


def stages(snapshots: Sequence[SnapshotInfo], theme: Theme, revision: str) -> dict[str, Any]:
    """Stacked bars, one per snapshot: to the server, waiting and commit, and the analysis of each layer, in seconds.

    Args:
        snapshots: a run's newest, oldest first.
        theme: colours.
        revision: key of the user's choices.
    """
    layers = list(dict.fromkeys(name for one in snapshots for name in one.seconds))
    names = [f"{one.step:,}" for one in snapshots]
    tints = look.layer_colours(max(1, len(layers)), theme)
    rows = [
        (SEND, [one.received_at - one.captured_at for one in snapshots], theme.categories["color"], "/"),
        (
            WAIT,
            [one.committed_at - one.received_at - sum(one.seconds.values()) for one in snapshots],
            theme.faint,
            ".",
        ),
        *[
            (f"analysis of {look.plain(layer)}", [one.seconds.get(layer, 0.0) for one in snapshots], tint, "")
            for layer, tint in zip(layers, tints, strict=False)
        ],
    ]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": [round(max(0.0, value), 4) for value in values],
            "marker": {
                "color": colour,
                "pattern": {"shape": hatch, "fgcolor": theme.panel, "size": 5, "solidity": 0.25, "fillmode": "overlay"},
            },
            "hovertemplate": "step %{x}: %{y:.3f} s<extra>" + name + "</extra>",
        }
        for name, values, colour, hatch in rows
    ]
    layout = look.layout(
        theme,
        revision,
        (52, 14, 32, 36),
        barmode="stack",
        bargap=0.12,
        showlegend=True,
        legend=look.legend_on_top(),
        xaxis=look.axis(theme, "step", type="category", showgrid=False, nticks=9, tickangle=0),
        yaxis=look.axis(theme, "seconds", rangemode="tozero", nticks=5),
    )
    return {"data": traces, "layout": layout}
