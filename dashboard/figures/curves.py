"""Curves over steps: d_anchor of every layer, and the logged scalars under it on the same axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_server.report import Alert, Scalars, SeriesPoint
from dashboard import theme as look
from dashboard.figures.thinning import numbers, thin
from dashboard.theme import Theme

TITLE = "d_anchor (lower is more diverse)"
BROKEN = "settings changed: not comparable across this line"
RESUMED = "training resumed here"
PANELS = 4
"""Scalar panels drawn; further scalars are named in the summary."""
_DASHES = ("dot", "dash", "dashdot", "longdash")
_MARGIN = (66, 18, 4, 22)


@dataclass(frozen=True)
class Curve:
    """One layer's d_anchor through the run: arrays ``[S]``, oldest first.

    ``breaks`` holds the indices at which a new fingerprint begins, ``resumes`` those at which another training process
    went on: the curve is cut before both.
    """

    steps: np.ndarray
    values: np.ndarray
    baseline: np.ndarray
    breaks: tuple[int, ...] = ()
    resumes: tuple[int, ...] = ()

    @property
    def cuts(self) -> tuple[int, ...]:
        """All indices before which the curve is cut, ascending."""
        return tuple(sorted({*self.breaks, *self.resumes}))


def curve(points: Sequence[SeriesPoint]) -> Curve:
    """A layer's series as arrays."""
    marks = [p.summary.fingerprint for p in points]
    return Curve(
        steps=np.array([p.step for p in points], dtype=np.int64),
        values=np.array([p.summary.d_anchor for p in points], dtype=np.float64),
        baseline=np.array([p.summary.centroid_baseline for p in points], dtype=np.float64),
        breaks=tuple(i for i in range(1, len(marks)) if marks[i] != marks[i - 1]),
        resumes=tuple(i for i in range(1, len(points)) if _resumes(points[i - 1], points[i])),
    )


def _resumes(before: SeriesPoint, point: SeriesPoint) -> bool:
    return point.epoch != before.epoch or point.step <= before.step


def d_anchor(
    curves: Mapping[str, Curve],
    alerts: Sequence[Alert],
    theme: Theme,
    *,
    focus: str | None,
    step: int | None,
    span: tuple[float, float],
    revision: str,
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The main figure: one curve per layer, its start, the centroid baseline, the alerts.

    Args:
        curves: by layer, in the network's order.
        alerts: marked on the curve of their layer.
        theme: colours.
        focus: layer drawn strong, with its baseline.
        step: a past step to mark; None if live.
        span: the step axis, shared with :func:`scalars`.
        revision: key of the user's zoom.
        meta: kept in the layout for the page (sequence and time of the newest snapshot).
    """
    colours = look.layer_colours(max(1, len(curves)), theme)
    traces = [_baseline(curves.get(focus or "", None), theme)]
    for index, (layer, one) in enumerate(curves.items()):
        traces.append(_line(layer, one, colours[index], index, len(curves), layer == focus))
    traces += [_starts(curves, colours, theme), _marks(curves, alerts, theme)]
    notes = {int(one.steps[i]): RESUMED for one in curves.values() for i in one.resumes}
    notes |= {int(one.steps[i]): BROKEN for one in curves.values() for i in one.breaks}
    layout = look.layout(
        theme,
        revision,
        _MARGIN,
        showlegend=True,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 11},
            "traceorder": "normal",
        },
        hovermode="x unified",
        xaxis=_steps(theme, span, ""),
        yaxis=look.axis(theme, TITLE.replace(" (", "<br>("), tickformat=".3~f", nticks=7),
        shapes=_cursor(step, theme) + [_rule(at, theme) for at in notes],
        annotations=[_note(at, text, theme) for at, text in notes.items()],
        meta=dict(meta or {}),
    )
    return {"data": traces, "layout": layout}


def scalars(
    logged: Mapping[str, Scalars], theme: Theme, *, step: int | None, span: tuple[float, float], revision: str
) -> dict[str, Any]:
    """The logged quantities, one panel each, one under the other on d_anchor's step axis."""
    names = list(logged)[:PANELS]
    layout = look.layout(theme, revision, (66, 18, 4, 34), hovermode="x unified", xaxis=_steps(theme, span))
    layout |= {"shapes": _cursor(step, theme), "annotations": []}
    traces = []
    for index, name in enumerate(names):
        bottom, top = 1 - (index + 1) / len(names), 1 - index / len(names)
        suffix = "" if index == 0 else str(index + 1)
        layout["yaxis" + suffix] = look.axis(
            theme, "", domain=[bottom + 0.03, top - 0.3 / len(names)], nticks=3, anchor="x"
        )
        layout["annotations"].append(look.heading(name, top - 0.3 / len(names), theme))
        traces.append(_scalar(logged[name], "y" + suffix, theme))
    layout["xaxis"]["anchor"] = "y" + (str(len(names)) if len(names) > 1 else "")
    return {"data": traces, "layout": layout}


def span_of(
    curves: Mapping[str, Curve], logged: Mapping[str, Scalars], planned: int | None = None
) -> tuple[float, float]:
    """The step axis that holds all curves and scalars, with a little air at its ends.

    ``planned`` steps count only once most of them are done: an empty plot of the future would hide the present.
    """
    last = [int(c.steps.max()) for c in curves.values() if len(c.steps)] + [
        int(s.steps.max()) for s in logged.values() if len(s.steps)
    ]
    end = max(last, default=0)
    if planned and end > 0.6 * planned:
        end = max(end, planned)
    end = max(end, 1)
    return (-0.02 * end, 1.02 * end)


def broken(values: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Segment number of every point: it grows by one at each cut."""
    segment = np.zeros(len(values), dtype=np.int64)
    for at in cuts:
        segment[at:] += 1
    return segment


def _cut(steps: np.ndarray, values: np.ndarray, cuts: Sequence[int]) -> tuple[list, list]:
    """Thinned coordinates with a gap before every cut."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    segments = broken(values, cuts)
    for number in range(len(cuts) + 1):
        inside = np.flatnonzero(segments == number)
        kept = inside[thin(values[inside])]
        xs += ([None] if number else []) + [int(s) for s in steps[kept]]
        ys += ([None] if number else []) + numbers(values[kept])
    return xs, ys


def _line(layer: str, one: Curve, colour: str, index: int, count: int, focused: bool) -> dict[str, Any]:
    xs, ys = _cut(one.steps, one.values, one.cuts)
    dash = "solid" if index == count - 1 else _DASHES[index % len(_DASHES)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(xs) < 4 else "lines",
        "name": look.plain(layer),
        "x": xs,
        "y": ys,
        "connectgaps": False,
        "line": {"color": colour, "width": 2.6 if focused else 1.6, "dash": dash},
        "marker": {"size": 6},
        "hovertemplate": "%{y:.4f}",
    }


def _baseline(one: Curve | None, theme: Theme) -> dict[str, Any]:
    one = one or Curve(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    xs, ys = _cut(one.steps, one.baseline, one.cuts)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "centroid baseline",
        "x": xs,
        "y": ys,
        "connectgaps": False,
        "line": {"color": theme.faint, "width": 1, "dash": "dash"},
        "hovertemplate": "%{y:.4f}",
    }


def _starts(curves: Mapping[str, Curve], colours: Sequence[str], theme: Theme) -> dict[str, Any]:
    """The value before training, as an open ring at the start of each curve."""
    begun = [(one, colour) for one, colour in zip(curves.values(), colours, strict=False) if len(one.steps)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "first value",
        "showlegend": False,
        "hoverinfo": "skip",
        "cliponaxis": False,
        "x": [int(one.steps[0]) for one, _ in begun],
        "y": numbers([one.values[0] for one, _ in begun]),
        "marker": {"size": 8, "color": theme.panel, "line": {"color": [c for _, c in begun], "width": 2}},
    }


def _marks(curves: Mapping[str, Curve], alerts: Sequence[Alert], theme: Theme) -> dict[str, Any]:
    found = [(alert, value) for alert in alerts if (value := _value_at(curves.get(alert.layer), alert)) is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "alerts",
        "showlegend": False,
        "cliponaxis": False,
        "x": [alert.step for alert, _ in found],
        "y": numbers([value for _, value in found]),
        "hovertext": [look.plain(f"{a.severity}: {a.rule} in {a.layer}") for a, _ in found],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "size": 12,
            "symbol": [look.SEVERITY_SYMBOLS.get(a.severity, "circle") for a, _ in found],
            "color": [theme.severities.get(a.severity, theme.ink) for a, _ in found],
            "line": {"color": theme.panel, "width": 1.5},
        },
    }


def _value_at(one: Curve | None, alert: Alert) -> float | None:
    """d_anchor of the last snapshot not after the alert that has one; None where there is no curve to stand on."""
    if one is None:
        return None
    before = np.flatnonzero((one.steps <= alert.step) & np.isfinite(one.values))
    return float(one.values[before[np.argmax(one.steps[before])]]) if len(before) else None


def _scalar(logged: Scalars, axis: str, theme: Theme) -> dict[str, Any]:
    order = np.argsort(logged.steps, kind="stable")
    steps, values = logged.steps[order], logged.values[order]
    kept = thin(values)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(kept) < 2 else "lines",
        "name": look.plain(logged.name),
        "x": [int(s) for s in steps[kept]],
        "y": numbers(values[kept]),
        "yaxis": axis,
        "connectgaps": False,
        "line": {"color": theme.muted, "width": 1.5},
        "hovertemplate": "%{y:.4g}",
    }


def _steps(theme: Theme, span: tuple[float, float], title: str = "step") -> dict[str, Any]:
    return look.axis(theme, title, range=list(span), showgrid=False, tickformat=",d", nticks=8, hoverformat=",d")


def _cursor(step: int | None, theme: Theme) -> list[dict[str, Any]]:
    return [] if step is None else [_rule(step, theme, "solid", theme.accent)]


def _rule(step: int, theme: Theme, dash: str = "dash", colour: str | None = None) -> dict[str, Any]:
    line = {"color": colour or theme.muted, "width": 1, "dash": dash}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1, "line": line}


def _note(step: int, text: str, theme: Theme) -> dict[str, Any]:
    return {
        "text": text,
        "x": step,
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": 10, "color": theme.muted},
    }
