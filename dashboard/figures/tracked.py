"""Tracked neurons on the map: where each stood at chosen steps, and its way between them (the paper's Fig. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm_server.report import Trail
from dashboard import theme as look
from dashboard.theme import Theme

MOST_UNITS, MOST_STEPS = 8, 6
"""More tracked neurons or steps than this, and nobody can tell them apart any more."""


def places(trail: Trail, steps: Sequence[int]) -> list[tuple[int, float, float]]:
    """Where a neuron stood: ``(step, x, y)`` at the last snapshot not after each chosen step, and at its newest.

    A snapshot in which the neuron was dead gives nothing; a step before the first snapshot neither.
    """
    found: dict[int, tuple[int, float, float]] = {}
    for wanted in (*steps, *trail.steps[-1:].tolist()):
        before = np.flatnonzero(trail.steps <= wanted)
        if len(before) and np.isfinite(trail.positions[before[-1]]).all():
            x, y = trail.positions[before[-1]]
            step = int(trail.steps[before[-1]])
            found[step] = (step, round(float(x), 4), round(float(y), 4))
    return [found[step] for step in sorted(found)]


def traces(tracked: Mapping[int, Trail], steps: Sequence[int], theme: Theme, kind: str) -> list[dict[str, Any]]:
    """Two traces, empty if nothing is tracked: a line through each neuron's places, and a ring at each of them."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    points: list[tuple[float, float, str]] = []
    for unit, trail in tracked.items():
        stops = places(trail, steps)
        xs += [*(x for _, x, _ in stops), None]
        ys += [*(y for _, _, y in stops), None]
        points += [(x, y, f"neuron {unit} at step {step:,}") for step, x, y in stops]
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "tracked ways",
        "hoverinfo": "skip",
        "x": xs,
        "y": ys,
        "connectgaps": False,
        "line": {"color": look.fade(theme.ink, 0.55), "width": 1.5, "dash": "dot"},
    }
    rings = {
        "type": kind,
        "mode": "markers",
        "name": "tracked",
        "x": [x for x, _, _ in points],
        "y": [y for _, y, _ in points],
        "hovertext": [text for _, _, text in points],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"symbol": "circle-open", "size": 14, "color": theme.accent, "line": {"width": 2}},
    }
    return [line, rings]


def labels(tracked: Mapping[int, Trail], steps: Sequence[int], theme: Theme) -> list[dict[str, Any]]:
    """The neuron's number at its newest place, the step at the earlier ones."""
    found = []
    for unit, trail in tracked.items():
        stops = places(trail, steps)
        for index, (step, x, y) in enumerate(stops):
            last = index == len(stops) - 1
            found.append(_label(f"<b>{unit}</b>" if last else f"{step:,}", x, y, theme, last))
    return found


def _label(text: str, x: float, y: float, theme: Theme, strong: bool) -> dict[str, Any]:
    return {
        "text": text,
        "x": x,
        "y": y,
        "yshift": -15,
        "showarrow": False,
        "bgcolor": look.fade(theme.panel, 0.85),
        "borderpad": 1,
        "font": {"size": 11 if strong else 10, "color": theme.accent},
    }
