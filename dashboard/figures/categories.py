"""What the layers' interpretable units respond to: one stacked bar per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cm_server.report import LayerSummary
from dashboard import theme as look
from dashboard.theme import CATEGORIES, OTHER, Theme


def counts(summary: LayerSummary) -> dict[str, int]:
    """Interpretable units per shown category; unknown categories go to ``other``, so the sum is ``interpretable``."""
    found: dict[str, int] = dict.fromkeys((*CATEGORIES, OTHER), 0)
    for name, count in summary.categories.items():
        found[look.category_of(name)] += int(count)
    found[OTHER] += max(0, summary.interpretable - sum(found.values()))
    return found


def bars(summaries: Mapping[str, LayerSummary], theme: Theme, revision: str) -> dict[str, Any]:
    """Stacked bars: the share of a layer's units whose best concept is a colour, a texture, … and the rest.

    Args:
        summaries: by layer, in the network's order (drawn from top to bottom).
        theme: colours.
        revision: key of the user's choices in the legend.
    """
    shown = {layer: counts(summary) for layer, summary in summaries.items()}
    traces = [
        _bar(name, name, {la: c[name] for la, c in shown.items()}, summaries, theme) for name in (*CATEGORIES, OTHER)
    ]
    rest = {layer: s.units - s.interpretable for layer, s in summaries.items()}
    traces.append(_bar("not interpretable", None, rest, summaries, theme))
    layout = look.layout(
        theme,
        revision,
        (84, 88, 8, 34),
        barmode="stack",
        bargap=0.42,
        xaxis=look.axis(theme, "share of the layer's units", range=[0, 1], tickformat=".0%", nticks=5),
        yaxis=look.axis(theme, type="category", autorange="reversed", showgrid=False, ticksuffix="  "),
        annotations=[_total(place, summary, theme) for place, summary in enumerate(summaries.values())],
    )
    return {"data": traces, "layout": layout}


def _bar(
    label: str, category: str | None, units: Mapping[str, int], summaries: Mapping[str, LayerSummary], theme: Theme
) -> dict[str, Any]:
    colour = theme.categories[category] if category else theme.grid
    pattern = {
        "shape": look.HATCHES[category] if category else "",
        "fgcolor": theme.panel,
        "fillmode": "overlay",
        "size": 5,
        "solidity": 0.25,
    }
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "x": [round(units[layer] / max(1, s.units), 4) for layer, s in summaries.items()],
        "y": [look.plain(layer) for layer in summaries],
        "customdata": [units[layer] for layer in summaries],
        "marker": {"color": colour, "pattern": pattern, "line": {"color": theme.panel, "width": 1}},
        "hovertemplate": "%{y}: %{customdata} units (%{x:.1%})<extra>" + label + "</extra>",
    }


def _total(place: int, summary: LayerSummary, theme: Theme) -> dict[str, Any]:
    # By place on the axis: a layer called "1" (any nn.Sequential) would be taken for the place itself.
    return {
        "text": f"{summary.interpretable:,} of {summary.units:,}",
        "x": 1,
        "y": place,
        "xref": "paper",
        "yref": "y",
        "xanchor": "left",
        "xshift": 8,
        "showarrow": False,
        "font": {"size": 11, "color": theme.muted},
    }
