"""One neuron's way on the map: where it began, where it is, the words it lies among and the neurons beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cm_server.anchors import UserAnchor
from cm_server.report import ConceptMap, LayerReport, Trail
from dashboard import theme as look
from dashboard.figures.anchor_stars import stars
from dashboard.figures.concept_map import trail_lines
from dashboard.figures.labels import place
from dashboard.theme import Theme

SMALLEST = 0.12
"""The picture shows this share of the map's width at least: a neuron that rests must not look as if it travelled."""
LABELS = 26
CANDIDATES = 120
"""Words that are tried as labels: each try costs, and the picture is drawn twice a second."""
SCREEN = (560.0, 320.0)
"""About the picture's size in pixels, for labels that do not touch."""

Extent = tuple[float, float, float, float]


def draw(
    layout: ConceptMap,
    report: LayerReport,
    unit: int,
    trail: Trail | None,
    theme: Theme,
    *,
    near: Sequence[int] = (),
    anchors: Sequence[UserAnchor] = (),
    revision: str,
) -> dict[str, Any]:
    """The part of the map that the neuron travelled.

    Args:
        layout: the run's frozen map of the words.
        report: the layer's units.
        unit: a live unit.
        trail: its way.
        theme: colours.
        near: its nearest neighbours.
        anchors: of the run.
        revision: key of the user's zoom.
    """
    shown = extent(layout, report, unit, trail)
    own = [int(c) for c in report.arrays.concepts[unit] if c >= 0]
    traces = [
        _words(layout, own, theme),
        _neighbours(report, near, theme),
        *trail_lines(trail, theme),
        stars(anchors, theme),
    ]
    traces += [_own(layout, own, theme), _ends(report, unit, trail, theme)]
    figure = look.map_layout(
        theme,
        revision,
        shown,
        annotations=_labels(layout, own, shown, theme),
    )
    return {"data": traces, "layout": figure}


def extent(layout: ConceptMap, report: LayerReport, unit: int, trail: Trail | None) -> Extent:
    """What is shown: the way and the neuron's own words with some room around them, never less than `SMALLEST`."""
    own = [int(c) for c in report.arrays.concepts[unit][:1] if c >= 0]
    points = [report.arrays.positions[unit][None], layout.positions[own]]
    points += [trail.positions] if trail is not None else []
    every = np.concatenate(points).astype(float)
    every = every[np.isfinite(every).all(axis=1)]
    x0, x1, y0, y1 = layout.extent
    width, height = x1 - x0, y1 - y0
    low, high = every.min(axis=0), every.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2 * 1.35
    share = max(half[0] / width, half[1] / height, SMALLEST / 2)
    return (
        float(middle[0] - share * width),
        float(middle[0] + share * width),
        float(middle[1] - share * height),
        float(middle[1] + share * height),
    )


def share_shown(layout: ConceptMap, shown: Extent) -> float:
    """The part of the map's width that is shown, above 0."""
    return (shown[1] - shown[0]) / (layout.extent[1] - layout.extent[0])


def _points(positions: np.ndarray) -> dict[str, list[float]]:
    places = np.round(positions.astype(float), 4)
    return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist()}


def _words(layout: ConceptMap, own: Sequence[int], theme: Theme) -> dict[str, Any]:
    rest = np.setdiff1d(np.arange(len(layout.words)), np.array(own, dtype=np.int64))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "words",
        **_points(layout.positions[rest]),
        "hovertext": [look.plain(layout.words[i]) for i in rest],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"symbol": "star", "size": 6, "color": theme.faint},
    }


def _neighbours(report: LayerReport, near: Sequence[int], theme: Theme) -> dict[str, Any]:
    at = np.array(near, dtype=np.int64)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "nearest neurons",
        **_points(report.arrays.positions[at]),
        "customdata": at.tolist(),
        "hovertext": [look.plain(f"{report.summary.layer}:{unit}") for unit in near],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"symbol": "circle-open", "size": 9, "color": theme.muted, "line": {"width": 1.5}},
    }


def _own(layout: ConceptMap, own: Sequence[int], theme: Theme) -> dict[str, Any]:
    at = np.array(own, dtype=np.int64)
    names = [look.category_of(layout.categories[i]) for i in own]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "its concepts",
        **_points(layout.positions[at]),
        "hovertext": [look.plain(f"{n + 1}. {layout.words[i]}") for n, i in enumerate(own)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"symbol": "star", "size": 12, "color": [theme.categories[n] for n in names]},
    }


def _ends(report: LayerReport, unit: int, trail: Trail | None, theme: Theme) -> dict[str, Any]:
    """Hollow where it began, full where it is."""
    began = trail.positions[np.isfinite(trail.positions).all(axis=1)][:1] if trail is not None else np.empty((0, 2))
    places = np.concatenate([began, report.arrays.positions[unit][None]])
    texts = [*["here it began"] * len(began), "here it is"]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "the neuron",
        **_points(places),
        "hovertext": texts,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": [*["circle-open"] * len(began), "circle"],
            "size": [*[11] * len(began), 13],
            "color": theme.accent,
            "line": {"width": 2, "color": theme.accent},
        },
    }


def _labels(layout: ConceptMap, own: Sequence[int], shown: Extent, theme: Theme) -> list[dict[str, Any]]:
    """Its own words first, then those nearest to the middle, as long as labels do not touch."""
    places = layout.positions.astype(float)
    low, high = np.array([shown[0], shown[2]]), np.array([shown[1], shown[3]])
    away = np.square(places - (low + high) / 2).sum(axis=1)
    away[~((places > low) & (places < high)).all(axis=1)] = np.inf
    nearest = [i for i in np.argsort(away, kind="stable")[:CANDIDATES].tolist() if np.isfinite(away[i])]
    chosen = place(layout.words, places, list(dict.fromkeys([*own, *nearest])), shown, LABELS, SCREEN)
    return [
        {
            "text": look.plain(layout.words[i]),
            "x": round(float(layout.positions[i, 0]), 4),
            "y": round(float(layout.positions[i, 1]), 4),
            "yshift": 12,
            "showarrow": False,
            "bgcolor": look.fade(theme.panel, 0.72),
            "borderpad": 0,
            "font": {"size": 12 if i in own else 10.5, "color": theme.ink if i in own else theme.muted},
        }
        for i in chosen
    ]
