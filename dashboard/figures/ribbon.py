"""A neuron's concepts through time: which word was its best at each snapshot, and how well it fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from cm_server.report import Trail
from dashboard import theme as look
from dashboard.figures.thinning import numbers, thin
from dashboard.theme import OTHER, Theme

ROWS = 7
"""Words with a row of their own; the rest share the last one."""
REST = "other words"
DEAD = "dead"


@dataclass(frozen=True)
class Span:
    """A word was the best from one snapshot until the next word's (or the end).

    Attributes:
        concept: its index; -1 while the unit was dead.
        first, last: steps of its first and last snapshot.
        until: the step at which the next span begins; ``last`` for the last one.
        snapshots: how many.
    """

    concept: int
    first: int
    last: int
    until: int
    snapshots: int


def spans(trail: Trail) -> list[Span]:
    """The trail cut where its best concept changes; together they cover it without a gap."""
    found: list[Span] = []
    at = 0
    for concept, group in groupby(trail.concepts.tolist()):
        count = len(list(group))
        first, last = int(trail.steps[at]), int(trail.steps[at + count - 1])
        following = at + count
        until = int(trail.steps[following]) if following < len(trail.steps) else last
        found.append(Span(int(concept), first, last, until, count))
        at = following
    return found


def rows(trail: Trail) -> list[int]:
    """The concepts with a row of their own, in the order of their first appearance: those that were best longest.

    The newest is always among them: it is what the neuron is now.
    """
    alive = [c for c in trail.concepts.tolist() if c >= 0]
    if not alive:
        return []
    often = [c for c, _ in Counter(alive).most_common()]
    newest = alive[-1]
    kept = {newest, *[c for c in often if c != newest][: ROWS - 1]}
    return [c for c in dict.fromkeys(alive) if c in kept]


def ribbon(
    trail: Trail,
    words: Sequence[str],
    categories: Sequence[str],
    theme: Theme,
    *,
    tau: Sequence[tuple[int, float]] = (),
    step: int | None = None,
    end: int | None = None,
    revision: str,
) -> dict[str, Any]:
    """Above, the similarity of the best concept; below, one row per word, filled while it was the best.

    Args:
        trail: the unit's way.
        words, categories: of the concept set.
        theme: colours.
        tau: (step, the layer's threshold), drawn dashed.
        step: a past step to mark; None if live.
        end: last step of the axis, where the run has gone on; None: the trail's own.
        revision: key of the user's zoom.
    """
    shown = rows(trail)
    names = [words[c] for c in shown]
    others = any(c >= 0 and c not in shown for c in trail.concepts.tolist())
    dead = bool((trail.concepts < 0).any())
    labels = [*names, *([REST] if others else []), *([DEAD] if dead else [])]
    cut = spans(trail)
    traces = [_similarity(trail, theme), _threshold(tau, theme)]
    traces += [_row(words[c], place, _of(cut, {c}), _colour(categories[c], theme)) for place, c in enumerate(shown)]
    if others:
        rest = {span.concept for span in cut if span.concept >= 0} - set(shown)
        traces.append(_row(REST, len(shown), _of(cut, rest), theme.muted))
    if dead:
        traces.append(_row(DEAD, len(labels) - 1, _of(cut, {-1}), theme.faint))
    first = int(trail.steps[0]) if len(trail.steps) else 0
    last = max(first + 1, int(trail.steps[-1]) if len(trail.steps) else 1, end or 0)
    layout = look.layout(
        theme,
        revision,
        (116, 16, 6, 34),
        hovermode="closest",
        xaxis=look.axis(theme, "step", range=[first, last], anchor="y2", tickformat=",d", showgrid=False),
        yaxis=look.axis(theme, "similarity", domain=[0.62, 1], rangemode="tozero", nticks=4),
        yaxis2=look.axis(
            theme,
            domain=[0, 0.55],
            range=[len(labels) - 0.4, -0.6],
            tickvals=list(range(len(labels))),
            ticktext=[look.plain(_short(label)) for label in labels],
            showgrid=False,
            fixedrange=True,
        ),
        shapes=[] if step is None else [_cursor(step, theme)],
    )
    return {"data": traces, "layout": layout}


def _of(cut: Sequence[Span], concepts: set[int]) -> list[Span]:
    return [span for span in cut if span.concept in concepts]


def _colour(category: str, theme: Theme) -> str:
    return theme.categories[look.category_of(category) if category else OTHER]


def _short(text: str, limit: int = 17) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _similarity(trail: Trail, theme: Theme) -> dict[str, Any]:
    values = np.where(trail.concepts >= 0, trail.similarities, np.nan).astype(float)
    kept = thin(values)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "similarity of the best concept",
        "x": [int(s) for s in trail.steps[kept]],
        "y": numbers(values[kept]),
        "connectgaps": False,
        "line": {"color": theme.accent, "width": 1.8},
        "marker": {"size": 3.5, "color": theme.accent},
        "hovertemplate": "step %{x:,d}: %{y:.3f}<extra></extra>",
    }


def _threshold(tau: Sequence[tuple[int, float]], theme: Theme) -> dict[str, Any]:
    steps = np.array([step for step, _ in tau], dtype=np.int64)
    values = np.array([value for _, value in tau], dtype=float)
    kept = thin(values) if len(values) else np.arange(0)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "τ, typical of the layer",
        "x": [int(s) for s in steps[kept]],
        "y": numbers(values[kept]),
        "line": {"color": theme.muted, "width": 1, "dash": "dash"},
        "hovertemplate": "typical τ %{y:.3f}<extra></extra>",
    }


def _row(name: str, place: int, cut: Sequence[Span], colour: str) -> dict[str, Any]:
    """A word's bars; a span of one last snapshot has no length, so it is drawn as a mark, too."""
    xs: list[int | None] = []
    texts: list[str | None] = []
    marks: list[int] = []
    for span in cut:
        steps = f"step {span.first:,}" if span.first == span.last else f"steps {span.first:,} to {span.last:,}"
        count = f"{span.snapshots:,} snapshot{'s' if span.snapshots > 1 else ''}"
        xs += [span.first, span.until, None]
        marks += [0 if span.until > span.first else 9] * 2 + [0]
        texts += [look.plain(f"{name}: {steps}, {count}")] * 2 + [None]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": look.plain(name),
        "x": xs,
        "y": [None if x is None else place for x in xs],
        "yaxis": "y2",
        "connectgaps": False,
        "hovertext": texts,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "line": {"color": colour, "width": 11},
        "marker": {"color": colour, "size": marks, "symbol": "square"},
    }


def _cursor(step: int, theme: Theme) -> dict[str, Any]:
    line = {"color": theme.accent, "width": 2}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1, "line": line}
