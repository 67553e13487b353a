"""Trajectories toward anchor words that somebody chose (paper, Fig. 14–16): distances over steps, trails on the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_server.report import ConceptMap
from dashboard import theme as look
from dashboard.figures.thinning import numbers
from dashboard.theme import Theme

UNITS = 8
"""Trails drawn toward each anchor: of the neurons that are nearest to it in the end."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon")


@dataclass(frozen=True)
class Approach:
    """How a layer's neurons moved with regard to one word.

    Attributes:
        word: the anchor.
        steps: ``[S]``.
        group: ``[S]``, mean distance of the nearest twentieth of the live units.
        typical: ``[S]``, median distance of the live units.
        nearest: units nearest in the last snapshot, nearest first.
        places: ``[S, n, 2]`` of those units on the map; NaN while dead.
        star: the word's place on the map; None where that is not known.
    """

    word: str
    steps: np.ndarray
    group: np.ndarray
    typical: np.ndarray
    nearest: tuple[int, ...]
    places: np.ndarray
    star: tuple[float, float] | None = None


def tints(count: int, theme: Theme) -> list[str]:
    """One colour per anchor; dashes and symbols tell them apart, too."""
    names = ("scene", "object", "material", "part", "color", "texture")
    return [theme.categories[names[i % len(names)]] for i in range(count)]


def distances(found: Sequence[Approach], theme: Theme, *, revision: str, step: int | None = None) -> dict[str, Any]:
    """Distance of the neurons nearest to each anchor, and of the layer's typical neuron, over the steps.

    Args:
        found: one per anchor.
        theme: colours.
        revision: key of the user's zoom.
        step: a past step to mark; None if live.
    """
    traces = []
    for index, (one, tint) in enumerate(zip(found, tints(len(found), theme), strict=True)):
        xs = [int(s) for s in one.steps]
        common = {"type": "scatter", "x": xs, "legendgroup": str(index), "hovertemplate": "%{y:.4f}"}
        line = {"color": tint, "width": 2.2, "dash": DASHES[index % len(DASHES)]}
        marker = {"size": 5, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": tint}
        word = look.plain(one.word)
        traces += [
            common | {"mode": "lines+markers", "name": word, "y": numbers(one.group), "line": line, "marker": marker},
            common
            | {
                "mode": "lines",
                "name": f"{word}, typical neuron",
                "showlegend": False,
                "y": numbers(one.typical),
                "line": {"color": look.fade(tint, 0.5), "width": 1, "dash": "dot"},
            },
        ]
    rule = {"color": theme.accent, "width": 1}
    cursor = {"type": "line", "xref": "x", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1, "line": rule}
    layout = look.layout(
        theme,
        revision,
        (58, 14, 32, 36),
        showlegend=True,
        legend=look.legend_on_top(),
        hovermode="x unified",
        xaxis=look.axis(theme, "step", showgrid=False, tickformat=",d", hoverformat=",d"),
        yaxis=look.axis(theme, "distance of u (lower is nearer)", tickformat=".3~f", nticks=6),
        shapes=[] if step is None else [cursor],
    )
    if not found:  # axes of nothing would bear numbers of nothing
        layout["xaxis"]["visible"] = layout["yaxis"]["visible"] = False
        layout["annotations"] = [
            {
                "text": "Distances appear here once a word is chosen.",
                "xref": "paper",
                "yref": "paper",
                "x": 0.5,
                "y": 0.5,
                "showarrow": False,
                "font": {"size": 12, "color": theme.muted},
            }
        ]
    return {"data": traces, "layout": layout}


def trails(found: Sequence[Approach], layout: ConceptMap, theme: Theme, *, revision: str) -> dict[str, Any]:
    """The chosen anchors among the words, and the ways of the neurons that came nearest to them.

    Args:
        found: one per anchor.
        layout: the run's frozen map.
        theme: colours.
        revision: key of the user's zoom.
    """
    traces: list[dict[str, Any]] = [_words(layout, theme)]
    for index, (one, tint) in enumerate(zip(found, tints(len(found), theme), strict=True)):
        traces += [_lines(one, index, tint), _ends(one, index, tint, theme)]
    traces.append(_stars(found, theme))
    figure_layout = look.map_layout(
        theme,
        revision,
        layout.extent,
        annotations=[_label(one, one.star, theme) for one in found if one.star is not None],
    )
    return {"data": traces, "layout": figure_layout}


def _words(layout: ConceptMap, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scattergl" if len(layout.words) > 600 else "scatter",
        "mode": "markers",
        "name": "words",
        "x": np.round(layout.positions[:, 0].astype(float), 4).tolist(),
        "y": np.round(layout.positions[:, 1].astype(float), 4).tolist(),
        "hovertext": [look.plain(word) for word in layout.words],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 3, "color": theme.faint, "opacity": 0.6},
    }


def _lines(one: Approach, index: int, tint: str) -> dict[str, Any]:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for way in one.places.transpose(1, 0, 2):
        xs += [*_plain(way[:, 0]), None]
        ys += [*_plain(way[:, 1]), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"ways to {look.plain(one.word)}",
        "x": xs,
        "y": ys,
        "hoverinfo": "skip",
        "connectgaps": False,
        "line": {"color": look.fade(tint, 0.65), "width": 1.6, "dash": DASHES[index % len(DASHES)]},
    }


def _ends(one: Approach, index: int, tint: str, theme: Theme) -> dict[str, Any]:
    """Where the neurons began (hollow) and where they stand (filled)."""
    last = one.places[-1] if len(one.places) else np.zeros((0, 2))
    first = one.places[0] if len(one.places) else np.zeros((0, 2))
    count = len(one.nearest)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"neurons near {look.plain(one.word)}",
        "x": _plain(first[:, 0]) + _plain(last[:, 0]),
        "y": _plain(first[:, 1]) + _plain(last[:, 1]),
        "customdata": [*one.nearest, *one.nearest],
        "hovertemplate": "neuron %{customdata}<extra>" + look.plain(one.word) + "</extra>",
        "marker": {
            "symbol": [SYMBOLS[index % len(SYMBOLS)] + "-open"] * count + [SYMBOLS[index % len(SYMBOLS)]] * count,
            "size": [6] * count + [9] * count,
            "color": tint,
            "line": {"color": [tint] * count + [theme.panel] * count, "width": 1},
        },
    }


def _stars(found: Sequence[Approach], theme: Theme) -> dict[str, Any]:
    placed = [(one.star, tint) for one, tint in zip(found, tints(len(found), theme), strict=True)]
    known = [(star, tint) for star, tint in placed if star is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chosen anchors",
        "hoverinfo": "skip",
        "x": [round(star[0], 4) for star, _ in known],
        "y": [round(star[1], 4) for star, _ in known],
        "marker": {
            "symbol": "star",
            "size": 17,
            "color": [tint for _, tint in known],
            "line": {"color": theme.panel, "width": 1},
        },
    }


def _label(one: Approach, star: tuple[float, float], theme: Theme) -> dict[str, Any]:
    return {
        "text": look.plain(one.word),
        "x": round(star[0], 4),
        "y": round(star[1], 4),
        "yshift": 16,
        "showarrow": False,
        "bgcolor": look.fade(theme.panel, 0.8),
        "font": {"size": 12, "color": theme.ink},
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return numbers(values.astype(float).tolist(), 5)
