"""Two runs, or two steps of one, in one figure: their curves (paper, Fig. 8) and their commonest concepts (Fig. 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_server.report import LayerReport, Scalars, SeriesPoint
from dashboard import theme as look
from dashboard.figures import curves
from dashboard.figures.curves import Curve
from dashboard.figures.thinning import numbers, thin
from dashboard.theme import Theme

PANELS = 3
"""Logged quantities drawn under d_anchor."""
BARS = 14
"""Concepts in the bars."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
_GAP = 0.075


@dataclass(frozen=True)
class Together:
    """One run among the curves.

    Attributes:
        name: shown in the legend.
        curve: its d_anchor, only what may be compared.
        scalars: what it logged.
        steps: steps to mark on its curve.
    """

    name: str
    curve: Curve
    scalars: Mapping[str, Scalars]
    steps: tuple[int, ...] = ()


def comparable_points(points: Sequence[SeriesPoint], fingerprint: str) -> list[SeriesPoint]:
    """The part of a series that may stand in the figure: of one fingerprint only."""
    return [point for point in points if point.summary.fingerprint == fingerprint]


def colours(count: int, theme: Theme) -> list[str]:
    """One colour per run: the accent, a warm one, then quiet ones; dashes tell them apart, too."""
    pair = [theme.accent, theme.categories["scene"]]
    return (pair + [theme.categories[name] for name in ("object", "part", "color", "texture", "material", "other")])[
        :count
    ]


def panels(runs: Sequence[Together]) -> list[str]:
    """The logged quantities to draw: those that most runs have, in the runs' own order (loss and accuracy first)."""
    order = list(dict.fromkeys(name for run in runs for name in run.scalars))
    having = {name: sum(name in run.scalars for run in runs) for name in order}
    return sorted(order, key=lambda name: -having[name])[:PANELS]


def together(
    runs: Sequence[Together], theme: Theme, *, with_d_anchor: bool, revision: str, title: str = ""
) -> dict[str, Any]:
    """d_anchor of all runs on top, the quantities they logged under it, on one step axis.

    Args:
        runs: in the page's order.
        theme: colours.
        with_d_anchor: False where the runs' fingerprints differ: what they logged is comparable all the same.
        revision: key of the user's zoom.
        title: of the d_anchor axis; empty for the usual.
    """
    names = panels(runs)
    span = curves.span_of(
        {str(i): run.curve for i, run in enumerate(runs)},
        {f"{i} {name}": one for i, run in enumerate(runs) for name, one in run.scalars.items() if name in names},
    )
    layout = look.layout(
        theme,
        revision,
        (66, 18, 32 if with_d_anchor else 48, 36),
        showlegend=True,
        legend=look.legend_on_top(),
        hovermode="x unified",
        xaxis=look.axis(theme, "step", range=list(span), showgrid=False, tickformat=",d", nticks=8, hoverformat=",d"),
        annotations=[],
        shapes=[],
    )
    rows = _rows(len(names), with_d_anchor)
    tints = colours(len(runs), theme)
    traces: list[dict[str, Any]] = []
    if with_d_anchor:
        layout["yaxis"] = look.axis(
            theme, title or curves.TITLE.replace(" (", "<br>("), domain=rows[0], tickformat=".3~f", nticks=6
        )
        traces += [_d_anchor(run, index, tints[index]) for index, run in enumerate(runs)]
        traces.append(_marks(runs, tints, theme))
    for place, name in enumerate(names):
        number = place + (1 if with_d_anchor else 0)
        suffix = "" if number == 0 else str(number + 1)
        layout["yaxis" + suffix] = look.axis(theme, "", domain=rows[number], nticks=4, anchor="x")
        layout["annotations"].append(look.heading(name, rows[number][1], theme))
        traces += [
            _scalar(run, name, "y" + suffix, index, tints[index], legend=not with_d_anchor and place == 0)
            for index, run in enumerate(runs)
        ]
    layout["xaxis"]["anchor"] = "y" + (str(len(rows)) if len(rows) > 1 else "")
    return {"data": traces, "layout": layout}


def _rows(panels: int, with_d_anchor: bool) -> list[list[float]]:
    """Domains from top to bottom; d_anchor is twice as tall as the others."""
    heights = ([2.0] if with_d_anchor else []) + [1.0] * panels
    if not heights:
        return []
    room = 1 - _GAP * (len(heights) - 1)
    rows, top = [], 1.0
    for height in heights:
        low = top - room * height / sum(heights)
        rows.append([max(0.0, round(low, 4)), round(top, 4)])
        top = low - _GAP
    return rows


def _d_anchor(run: Together, index: int, colour: str) -> dict[str, Any]:
    one = run.curve
    xs: list[int | None] = []
    ys: list[float | None] = []
    segments = curves.broken(one.values, one.cuts)
    for number in range(len(one.cuts) + 1):
        inside = np.flatnonzero(segments == number)
        kept = inside[thin(one.values[inside])]
        xs += ([None] if number else []) + [int(s) for s in one.steps[kept]]
        ys += ([None] if number else []) + numbers(one.values[kept])
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(xs) < 4 else "lines",
        "name": look.plain(run.name),
        "legendgroup": str(index),
        "x": xs,
        "y": ys,
        "connectgaps": False,
        "line": {"color": colour, "width": 2.4 if index < 2 else 1.6, "dash": DASHES[index % len(DASHES)]},
        "hovertemplate": "%{y:.4f}",
    }


def _marks(runs: Sequence[Together], tints: Sequence[str], theme: Theme) -> dict[str, Any]:
    """Where the two sides stand on their curves."""
    found = [
        (step, float(run.curve.values[at[-1]]), tint)
        for run, tint in zip(runs, tints, strict=True)
        for step in run.steps
        if len(at := np.flatnonzero((run.curve.steps == step) & np.isfinite(run.curve.values)))
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "shown steps",
        "showlegend": False,
        "hoverinfo": "skip",
        "cliponaxis": False,
        "x": [step for step, _, _ in found],
        "y": numbers([value for _, value, _ in found]),
        "marker": {"size": 11, "color": theme.panel, "line": {"color": [tint for *_, tint in found], "width": 2.5}},
    }


def _scalar(run: Together, name: str, axis: str, index: int, colour: str, *, legend: bool) -> dict[str, Any]:
    logged = run.scalars.get(name) or Scalars(name, np.zeros(0, np.int64), np.zeros(0))
    order = np.argsort(logged.steps, kind="stable")
    steps, values = logged.steps[order], logged.values[order]
    kept = thin(values)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(kept) < 2 else "lines",
        "name": look.plain(run.name),
        "legendgroup": str(index),
        "showlegend": legend,
        "x": [int(s) for s in steps[kept]],
        "y": numbers(values[kept]),
        "yaxis": axis,
        "connectgaps": False,
        "line": {"color": colour, "width": 1.5, "dash": DASHES[index % len(DASHES)]},
        "hovertemplate": f"{look.plain(name)} %{{y:.4g}}",
    }


def named_by(report: LayerReport) -> Counter[int]:
    """How many interpretable units of a layer have each concept as their best."""
    return Counter(report.arrays.concepts[report.interpretable, 0].tolist())


def commonest(counts: Sequence[Counter[int]], limit: int = BARS) -> list[int]:
    """The concepts that are named most on any side: the largest count first, then the sum, then the index."""
    concepts = {concept for side in counts for concept in side}
    return sorted(concepts, key=lambda c: (-max(side[c] for side in counts), -sum(side[c] for side in counts), c))[
        :limit
    ]


def concept_bars(
    counts: Sequence[Counter[int]],
    names: Sequence[str],
    words: Sequence[str],
    categories: Sequence[str],
    theme: Theme,
    revision: str,
) -> dict[str, Any]:
    """The commonest concepts of two sides, a pair of bars each (paper, Fig. 7).

    Args:
        counts: units per concept, for each side.
        names: of the sides.
        words, categories: of the concept set.
        theme: colours.
        revision: key of the user's choices.
    """
    chosen = commonest(counts)
    # A word that occurs in two categories would be one bar: the place on the axis is the concept's own.
    places = [str(concept) for concept in chosen]
    texts = [f"{look.plain(words[c])} {look.GLYPHS[look.category_of(categories[c])]}" for c in chosen]
    tints = colours(len(counts), theme)
    largest = max((side[concept] for side in counts for concept in chosen), default=0)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": look.plain(name),
            "x": [side[concept] for concept in chosen],
            "y": places,
            "customdata": texts,
            "marker": {
                "color": tint,
                "pattern": {
                    "shape": "" if index == 0 else "/",
                    "fgcolor": theme.panel,
                    "fillmode": "overlay",
                    "size": 5,
                    "solidity": 0.25,
                },
            },
            "hovertemplate": "%{customdata}: %{x} neurons<extra>" + look.plain(name) + "</extra>",
        }
        for index, (side, name, tint) in enumerate(zip(counts, names, tints, strict=True))
    ]
    layout = look.layout(
        theme,
        revision,
        (122, 16, 32, 36),
        barmode="group",
        bargap=0.3,
        bargroupgap=0.06,
        showlegend=True,
        legend=look.legend_on_top(),
        xaxis=look.axis(theme, "interpretable neurons with this concept", rangemode="tozero", tickformat=",d")
        | ({"dtick": 1} if largest < 10 else {}),
        yaxis=look.axis(
            theme,
            type="category",
            autorange="reversed",
            showgrid=False,
            tickvals=places,
            ticktext=texts,
            ticksuffix=" ",
        ),
    )
    return {"data": traces, "layout": layout}
