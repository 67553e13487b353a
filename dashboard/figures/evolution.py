"""A run through time beyond its curves: categories per layer over steps (paper, Fig. 2, 4, 6), and d_anchor and
interpretable units under other settings (Fig. 10, 12, 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm_server.report import LayerSummary, SeriesPoint
from dashboard import theme as look
from dashboard.figures.categories import counts
from dashboard.figures.curves import TITLE, Curve, span_of
from dashboard.figures.thinning import numbers, thin
from dashboard.theme import CATEGORIES, OTHER, Theme

BARS = 16
"""Steps drawn of each layer."""
REST = "not interpretable"
ROW_PIXELS = 132
"""Height of one layer's row."""
_GAP = 0.3
"""Of a row's height: room for the layer's name."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def chosen(points: Sequence[SeriesPoint], limit: int = BARS) -> list[SeriesPoint]:
    """Some snapshots, evenly over the series, always with the first and the last."""
    if len(points) <= limit:
        return list(points)
    return [points[i] for i in np.unique(np.linspace(0, len(points) - 1, limit).round().astype(int))]


def categories_over_steps(
    series: Mapping[str, Sequence[SeriesPoint]], theme: Theme, *, step: int | None, revision: str
) -> dict[str, Any]:
    """Stacked bars: what share of each layer's units speaks of colours, textures, … at some steps of the run.

    Args:
        series: by layer, in the network's order, drawn from top to bottom.
        theme: colours.
        step: a past step: bars after it are faint; None if live.
        revision: key of the user's choices.
    """
    rows = {layer: chosen(points) for layer, points in series.items() if points}
    layout = look.layout(
        theme,
        revision,
        (44, 14, 20, 40),
        barmode="stack",
        bargap=0.16,
        annotations=[],
        shapes=[],
        height=24 + 40 + ROW_PIXELS * max(1, len(rows)),
    )
    traces: list[dict[str, Any]] = []
    for index, (layer, points) in enumerate(rows.items()):
        suffix = "" if index == 0 else str(index + 1)
        top = 1 - index / len(rows)
        domain = [round(top - (1 - _GAP) / len(rows), 4), round(top, 4)]
        last = index == len(rows) - 1
        layout["xaxis" + suffix] = look.axis(
            theme,
            "step" if last else "",
            type="category",
            anchor="y" + suffix,
            showgrid=False,
            showticklabels=last,
            tickangle=0,
            nticks=9,
        )
        layout["yaxis" + suffix] = look.axis(
            theme, domain=domain, anchor="x" + suffix, range=[0, 1], tickformat=".0%", nticks=3
        )
        layout["annotations"].append(look.heading(_title(layer, points[-1].summary), domain[1], theme))
        layout["shapes"] += _breaks(points, suffix, theme)
        traces += _row(points, suffix, theme, step)
    return {"data": traces, "layout": layout}


def _row(points: Sequence[SeriesPoint], suffix: str, theme: Theme, step: int | None) -> list[dict[str, Any]]:
    found = [counts(point.summary) for point in points]
    names = [f"{point.step:,}" for point in points]
    opacity = [1.0 if step is None or point.step <= step else 0.3 for point in points]
    units = {name: [one[name] for one in found] for name in (*CATEGORIES, OTHER)}
    units[REST] = [point.summary.units - point.summary.interpretable for point in points]
    return [
        {
            "type": "bar",
            "name": name,
            "xaxis": "x" + suffix,
            "yaxis": "y" + suffix,
            "x": names,
            "y": [round(n / max(1, p.summary.units), 4) for n, p in zip(values, points, strict=True)],
            "customdata": values,
            "marker": _marker(name, theme) | {"opacity": opacity},
            "hovertemplate": "step %{x}: %{customdata} units (%{y:.1%})<extra>" + name + "</extra>",
        }
        for name, values in units.items()
    ]


def _marker(name: str, theme: Theme) -> dict[str, Any]:
    pattern = {"shape": look.HATCHES.get(name, ""), "fgcolor": theme.panel, "size": 5, "solidity": 0.25}
    return {
        "color": theme.categories.get(name, theme.grid),
        "pattern": pattern | {"fillmode": "overlay"},
        "line": {"color": theme.panel, "width": 0.5},
    }


def _breaks(points: Sequence[SeriesPoint], suffix: str, theme: Theme) -> list[dict[str, Any]]:
    """A line before the first bar of another fingerprint: bars on its two sides are not comparable."""
    marks = [p.summary.fingerprint for p in points]
    line = {"color": theme.ink, "width": 1.5, "dash": "dash"}
    return [
        {
            "type": "line",
            "xref": "x" + suffix,
            "yref": f"y{suffix} domain",
            "x0": at - 0.5,
            "x1": at - 0.5,
            "y0": 0,
            "y1": 1,
            "line": line,
        }
        for at in range(1, len(marks))
        if marks[at] != marks[at - 1]
    ]


def _title(layer: str, summary: LayerSummary) -> str:
    return f"{layer}: {summary.interpretable:,} of {summary.units:,} interpretable at the last step"


def threshold_bars(found: Mapping[str, Mapping[str, int]], units: int, theme: Theme, revision: str) -> dict[str, Any]:
    """Interpretable units by category for several τ (paper, Fig. 12, 13).

    Args:
        found: by label of the bar (``τ 0.2``), units per category.
        units: M, for the axis and the rest of each bar.
        theme: colours.
        revision: key of the user's choices.
    """
    shown = {label: _by_category(one) for label, one in found.items()}
    parts: dict[str, list[int]] = {name: [one[name] for one in shown.values()] for name in (*CATEGORIES, OTHER)}
    parts[REST] = [max(0, units - sum(one.values())) for one in shown.values()]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": list(shown),
            "y": values,
            "marker": _marker(name, theme),
            "hovertemplate": "%{x}: %{y:,} units<extra>" + name + "</extra>",
        }
        for name, values in parts.items()
    ]
    layout = look.layout(
        theme,
        revision,
        (48, 14, 10, 34),
        barmode="stack",
        bargap=0.3,
        xaxis=look.axis(theme, type="category", showgrid=False),
        yaxis=look.axis(theme, "units", range=[0, max(1, units) * 1.02], tickformat=",d", nticks=5),
    )
    return {"data": traces, "layout": layout}


def _by_category(found: Mapping[str, int]) -> dict[str, int]:
    shown: dict[str, int] = dict.fromkeys((*CATEGORIES, OTHER), 0)
    for name, count in found.items():
        shown[look.category_of(name)] += int(count)
    return shown


def d_anchor_by_temperature(
    own: Curve, recomputed: Mapping[float, tuple[Sequence[int], Sequence[float]]], theme: Theme, *, revision: str
) -> dict[str, Any]:
    """d_anchor at several T, with the engine's own curve beside them (paper, Fig. 10).

    Args:
        own: the stored curve, at the run's T.
        recomputed: by T, the steps and values.
        theme: colours.
        revision: key of the user's zoom.
    """
    kept = thin(own.values)
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "as stored",
            "x": [int(s) for s in own.steps[kept]],
            "y": numbers(own.values[kept]),
            "connectgaps": False,
            "line": {"color": theme.faint, "width": 1.2},
            "hovertemplate": "%{y:.4f}",
        }
    ]
    tints = look.layer_colours(max(1, len(recomputed)), theme)
    for index, (temperature, (steps, values)) in enumerate(sorted(recomputed.items())):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"T {temperature:g}",
                "x": list(steps),
                "y": numbers(values),
                "line": {"color": tints[index], "width": 2, "dash": DASHES[index % len(DASHES)]},
                "marker": {"size": 5},
                "hovertemplate": "%{y:.4f}",
            }
        )
    layout = look.layout(
        theme,
        revision,
        (66, 14, 32, 36),
        showlegend=True,
        legend=look.legend_on_top(),
        hovermode="x unified",
        xaxis=look.axis(
            theme, "step", range=list(span_of({"own": own}, {})), showgrid=False, tickformat=",d", hoverformat=",d"
        ),
        yaxis=look.axis(theme, TITLE.replace(" (", "<br>("), tickformat=".3~f", nticks=7),
    )
    return {"data": traces, "layout": layout}
