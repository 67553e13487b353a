"""The clock's strip: d_anchor small, a tick per snapshot, hatched gaps, alert flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cm_server.report import Alert, Gap
from dashboard import theme as look
from dashboard.figures.curves import Curve, broken
from dashboard.figures.thinning import numbers, thin
from dashboard.theme import Theme

HEIGHT = 34
"""Pixels."""


def strip(
    one: Curve, alerts: Sequence[Alert], gaps: Sequence[Gap], theme: Theme, *, step: int | None, revision: str
) -> dict[str, Any]:
    """The strip over the step slider; its ends are the slider's ends (:func:`ends`)."""
    first, last = ends(one)
    traces = [_gaps(one, gaps, theme), _line(one, theme), _ticks(one, theme), _flags(alerts, theme)]
    hidden = {"visible": False, "fixedrange": True}
    layout = look.layout(
        theme,
        revision,
        (0, 0, 0, 0),
        xaxis={"range": [first, last]} | hidden,
        yaxis={"range": [-0.2, 1.6]} | hidden,
        hovermode="closest",
        height=HEIGHT,
        shapes=[] if step is None else [_cursor(step, theme)],
    )
    return {"data": traces, "layout": layout}


def ends(one: Curve) -> tuple[int, int]:
    """First and last step; one step apart at least."""
    if not len(one.steps):
        return 0, 1
    first = int(one.steps.min())
    return first, max(int(one.steps.max()), first + 1)


def heights(one: Curve) -> np.ndarray:
    """d_anchor scaled to [0, 1] over its own range; 0.5 where it is flat, NaN stays."""
    finite = one.values[np.isfinite(one.values)]
    if not len(finite) or np.ptp(finite) == 0:
        return np.where(np.isfinite(one.values), 0.5, np.nan)
    return (one.values - finite.min()) / np.ptp(finite)


def _line(one: Curve, theme: Theme) -> dict[str, Any]:
    scaled = heights(one)
    xs: list[int | None] = []
    ys: list[float | None] = []
    segments = broken(scaled, one.cuts)
    for number in range(len(one.cuts) + 1):
        inside = np.flatnonzero(segments == number)
        kept = inside[thin(scaled[inside])]
        xs += ([None] if number else []) + [int(s) for s in one.steps[kept]]
        ys += ([None] if number else []) + numbers(scaled[kept])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "d_anchor",
        "x": xs,
        "y": ys,
        "connectgaps": False,
        "hoverinfo": "skip",
        "line": {"color": theme.accent, "width": 1.5},
    }


def _ticks(one: Curve, theme: Theme) -> dict[str, Any]:
    kept = thin(one.steps.astype(float), 300)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "snapshots",
        "x": [int(s) for s in one.steps[kept]],
        "y": [-0.1] * len(kept),
        "hovertemplate": "step %{x:,d}<extra></extra>",
        "marker": {"symbol": "line-ns-open", "size": 5, "color": theme.faint, "line": {"width": 1}},
    }


def _gaps(one: Curve, gaps: Sequence[Gap], theme: Theme) -> dict[str, Any]:
    """A hatched block from the snapshot before a lost capture to the one after it."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str | None] = []
    for gap in gaps:
        left, right = around(one, gap.step)
        xs += [left, right, right, left, left, None]
        ys += [-0.2, -0.2, 1.6, 1.6, -0.2, None]
        texts += [look.plain(f"gap at step {gap.step}: {gap.reason}")] * 5 + [None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "gaps",
        "x": xs,
        "y": ys,
        "hovertext": texts,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "fill": "toself",
        "fillcolor": "rgba(0,0,0,0)",
        "fillpattern": {"shape": "/", "fgcolor": theme.faint, "size": 5, "solidity": 0.35},
        "line": {"width": 0, "color": theme.faint},
    }


def around(one: Curve, step: int) -> tuple[int, int]:
    """The snapshots' steps before and after a lost capture, within the strip's ends."""
    first, last = ends(one)
    before = one.steps[one.steps < step]
    after = one.steps[one.steps > step]
    return (int(before.max()) if len(before) else first), (int(after.min()) if len(after) else last)


def _flags(alerts: Sequence[Alert], theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "alerts",
        "x": [a.step for a in alerts],
        "y": [1.3] * len(alerts),
        "hovertext": [look.plain(f"step {a.step}: {a.rule} in {a.layer}") for a in alerts],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": [look.SEVERITY_SYMBOLS.get(a.severity, "circle") for a in alerts],
            "size": 8,
            "color": [theme.severities.get(a.severity, theme.ink) for a in alerts],
        },
    }


def _cursor(step: int, theme: Theme) -> dict[str, Any]:
    line = {"color": theme.accent, "width": 2}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1, "line": line}
