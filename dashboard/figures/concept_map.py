"""The map: anchor stars, words, neurons, the selected neuron and its trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cm_server.report import ConceptMap, LayerReport, Trail
from dashboard import theme as look
from dashboard.figures import tracked as paths
from dashboard.figures.decimate import keep
from dashboard.figures.labels import place, spread_order
from dashboard.theme import CATEGORIES, OTHER, Theme

MANY = 600
"""Above this many points the map is drawn by WebGL: SVG chokes on thousands."""
LABELS = 44
"""Most words that get a label at first sight."""
SHADES = 5
"""Opacities of the trail: a segment's follows the true shift of u, not its length on the map."""
FAINTEST = 0.08
UNCLEAR = "not interpretable"


def draw(
    layout: ConceptMap,
    report: LayerReport,
    theme: Theme,
    *,
    selected: int | None,
    trail: Trail | None,
    revision: str,
    webgl: bool = True,
    meta: Mapping[str, Any] | None = None,
    tracked: Mapping[int, Trail] | None = None,
    marks: Sequence[int] = (),
    layered: bool = False,
) -> dict[str, Any]:
    """The map of one layer at one step.

    Args:
        layout: the run's frozen map of the words.
        report: the layer's units.
        theme: colours.
        selected: unit with a ring around it.
        trail: the selected unit's way through the run.
        revision: key of the user's zoom and choices.
        webgl: whether the browser can draw WebGL.
        meta: kept in the figure for the page.
        tracked: further units with their ways, as far as the step shown.
        marks: steps at which the tracked units' places are marked.
        layered: the page lays the words over the map itself (``assets/labels.js``): Plotly would measure each of them
            anew with every drawing, which takes as long as all the rest.
    """
    drawn = shown(report, [*([] if selected is None else [selected]), *(tracked or {})])
    many = webgl and len(layout.words) + len(report.arrays.live) > MANY
    kind = "scattergl" if many else "scatter"
    traces = [_stars(layout, theme, kind)]
    traces += [
        _neurons(group, units[drawn[units]], layout, report, theme, kind)
        for group, units in groups(layout, report).items()
    ]
    traces += [*trail_lines(trail, theme), *paths.traces(tracked or {}, marks, theme, kind)]
    traces += [_ring(report, selected, theme, kind)]
    figure_layout = look.map_layout(
        theme,
        revision,
        layout.extent,
        hoverdistance=12,
        annotations=[*([] if layered else _labels(layout, theme)), *paths.labels(tracked or {}, marks, theme)],
        meta=dict(meta or {}) | ({"labels": _words(layout)} if layered else {}),
    )
    return {"data": traces, "layout": figure_layout}


def shown(report: LayerReport, chosen: Sequence[int]) -> np.ndarray:
    """Which units are drawn, boolean ``[M]``: every live one, or of very many a steady sample with all outliers."""
    live = np.flatnonzero(report.arrays.live)
    drawn = np.zeros(len(report.arrays.live), dtype=bool)
    at = np.flatnonzero(np.isin(live, list(chosen)))
    drawn[live[keep(np.asarray(report.arrays.positions)[live], at.tolist())]] = True
    return drawn


def groups(layout: ConceptMap, report: LayerReport) -> dict[str, np.ndarray]:
    """Live units by the category of their best concept; units below tau apart. Every live unit is in one group."""
    arrays = report.arrays
    live = np.flatnonzero(arrays.live)
    clear = report.interpretable[live]
    names = np.array([look.category_of(layout.categories[c]) for c in arrays.concepts[live, 0]], dtype=object)
    found = {name: live[clear & (names == name)] for name in (*CATEGORIES, OTHER)}
    return {UNCLEAR: live[~clear]} | found


def _stars(layout: ConceptMap, theme: Theme, kind: str) -> dict[str, Any]:
    at = np.asarray(layout.anchors, dtype=np.int64)
    names = [look.category_of(layout.categories[i]) for i in at]
    return {
        "type": kind,
        "mode": "markers",
        "name": "anchors",
        "x": np.round(layout.positions[at, 0].astype(float), 4).tolist(),
        "y": np.round(layout.positions[at, 1].astype(float), 4).tolist(),
        "hovertext": [look.plain(f"★ {layout.words[i]} ({n})") for i, n in zip(at, names, strict=True)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": "star",
            "size": 7 if len(at) > 300 else 10,
            "opacity": 0.4 if len(at) > 300 else 0.75,
            "color": [theme.categories[n] for n in names],
        },
    }


def _neurons(
    group: str, units: np.ndarray, layout: ConceptMap, report: LayerReport, theme: Theme, kind: str
) -> dict[str, Any]:
    arrays = report.arrays
    clear = group != UNCLEAR
    colour = theme.categories[group] if clear else theme.muted
    return {
        "type": kind,
        "mode": "markers",
        "name": group,
        "x": np.round(arrays.positions[units, 0].astype(float), 4).tolist(),
        "y": np.round(arrays.positions[units, 1].astype(float), 4).tolist(),
        "customdata": units.tolist(),
        "hovertext": _hovers(units, layout, report),
        "meta": look.plain(report.summary.layer),
        "hovertemplate": "<b>%{hovertext}<br>%{meta}:%{customdata}<extra></extra>",
        "marker": {
            "symbol": look.SYMBOLS[group] if clear else "circle-open",
            "size": 9 if clear else 6,
            "color": colour,
            "opacity": 0.92 if clear else 0.55,
            "line": {"color": theme.panel if clear else theme.muted, "width": 1},
        },
    }


def _hovers(units: np.ndarray, layout: ConceptMap, report: LayerReport) -> list[str]:
    """Concept, similarity and margin of each unit: what is the same for all stands in the template, for these texts are
    most of what every snapshot sends. From lists, because numpy scalars are slow one by one.
    """
    arrays = report.arrays
    words = [look.plain(layout.words[concept]) for concept in arrays.concepts[units, 0].tolist()]
    similarities, margins = arrays.similarities[units, 0].tolist(), arrays.margin[units].tolist()
    return [
        f"{word}</b>  {similarity:.3f}, margin {margin:+.3f}"
        for word, similarity, margin in zip(words, similarities, margins, strict=True)
    ]


def trail_lines(trail: Trail | None, theme: Theme) -> list[dict[str, Any]]:
    """One trace per shade, always SVG: WebGL redraws a long line in tenths of a second, SVG in a few milliseconds."""
    lines = segments(trail) if trail is not None else {shade: ([], []) for shade in range(SHADES)}
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "trail",
            "hoverinfo": "skip",
            "x": xs,
            "y": ys,
            "connectgaps": False,
            "line": {"color": look.fade(theme.ink, shade_opacity(shade)), "width": 2},
        }
        for shade, (xs, ys) in lines.items()
    ]


def shade_opacity(shade: int) -> float:
    """Opacity of a shade: the faintest for a unit that did not move, 1 for the run's largest shift."""
    return FAINTEST + (1 - FAINTEST) * shade / (SHADES - 1)


def segments(trail: Trail) -> dict[int, tuple[list[float | None], list[float | None]]]:
    """The trail cut into its segments, by shade; dead snapshots (NaN) interrupt it."""
    lines: dict[int, tuple[list[float | None], list[float | None]]] = {s: ([], []) for s in range(SHADES)}
    moved = np.nan_to_num(trail.shift[1:], nan=0.0)
    largest = float(moved.max(initial=0.0))
    shades = np.rint((SHADES - 1) * moved / largest).astype(int) if largest > 0 else np.zeros(len(moved), int)
    places = np.round(trail.positions.astype(float), 4)
    for before, after, shade in zip(places[:-1], places[1:], shades, strict=True):
        if np.isfinite(before).all() and np.isfinite(after).all():
            xs, ys = lines[int(shade)]
            xs += [float(before[0]), float(after[0]), None]
            ys += [float(before[1]), float(after[1]), None]
    return lines


def _ring(report: LayerReport, selected: int | None, theme: Theme, kind: str) -> dict[str, Any]:
    known = selected is not None and selected < len(report.arrays.live) and bool(report.arrays.live[selected])
    places: Sequence[np.ndarray] = [report.arrays.positions[selected]] if known else []
    return {
        "type": kind,
        "mode": "markers",
        "name": "selected",
        "hoverinfo": "skip",
        "x": [round(float(p[0]), 4) for p in places],
        "y": [round(float(p[1]), 4) for p in places],
        "marker": {"symbol": "circle-open", "size": 20, "color": theme.ink, "line": {"width": 2.5, "color": theme.ink}},
    }


def _labels(layout: ConceptMap, theme: Theme) -> list[dict[str, Any]]:
    """Annotations, because they lie above the WebGL layer; a text trace would be covered by the markers."""
    return [
        {
            "text": look.plain(word),
            "x": x,
            "y": y,
            "yshift": 12,
            "showarrow": False,
            "bgcolor": look.fade(theme.panel, 0.72),
            "borderpad": 0,
            "font": {"size": 11, "color": theme.ink},
        }
        for word, x, y in _words(layout)
    ]


def _words(layout: ConceptMap) -> list[tuple[str, float, float]]:
    """The labelled words with their places."""
    return [
        (layout.words[i], round(float(layout.positions[i, 0]), 4), round(float(layout.positions[i, 1]), 4))
        for i in labelled(layout)
    ]


def labelled(layout: ConceptMap) -> tuple[int, ...]:
    """Words with a label: spread over the map, never touching, the same as long as the map is the same."""
    return _labelled(layout.words, layout.positions.astype(np.float64).tobytes(), layout.extent)


@lru_cache(maxsize=16)
def _labelled(words: tuple[str, ...], raw: bytes, extent: tuple[float, float, float, float]) -> tuple[int, ...]:
    positions = np.frombuffer(raw, dtype=np.float64).reshape(-1, 2)
    if not len(positions):
        return ()
    middle = int(np.square(positions - positions.mean(axis=0)).sum(axis=1).argmin())
    return tuple(place(words, positions, spread_order(positions, middle), extent, LABELS))
