"""Colours and symbols of both themes, and the layout every plot starts from.

The category colours follow Okabe and Ito (2008), set so that every pair stays apart for the three kinds of colour
blindness and every colour stands out from its ground by 3:1 (tests/dashboard/test_dashboard_colours.py); each
category also has its own symbol and hatching, so that colour is never the only sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from typing import Any

CATEGORIES = ("color", "texture", "material", "part", "object", "scene")
OTHER = "other"
"""Shown for a word whose category is unknown."""
SYMBOLS = {
    "color": "square",
    "texture": "diamond",
    "material": "pentagon",
    "part": "triangle-up",
    "object": "circle",
    "scene": "cross",
    OTHER: "circle-open",
}
GLYPHS = {"color": "■", "texture": "◆", "material": "⬟", "part": "▲", "object": "●", "scene": "✚", OTHER: "○"}
HATCHES = {"color": "", "texture": "/", "material": ".", "part": "\\", "object": "", "scene": "-", OTHER: "x"}
SEVERITY_SYMBOLS = {"info": "circle", "warning": "triangle-up", "error": "x"}
SEVERITY_GLYPHS = {"info": "●", "warning": "▲", "error": "✖"}
FONT = 'Inter, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; ``layers`` are the ends of the ramp from the first layer to the last."""

    name: str
    ink: str
    muted: str
    faint: str
    grid: str
    panel: str
    accent: str
    layers: tuple[str, str]
    categories: Mapping[str, str]
    severities: Mapping[str, str] = field(default_factory=dict)


LIGHT = Theme(
    name="light",
    ink="#1b2430",
    muted="#5a6675",
    faint="#8a95a2",
    grid="#e9edf1",
    panel="#ffffff",
    accent="#0b6e78",
    layers=("#8494a5", "#0b6e78"),
    categories={
        "color": "#bf8600",
        "texture": "#3795d0",
        "material": "#00936b",
        "part": "#c05f96",
        "object": "#004a80",
        "scene": "#b84300",
        OTHER: "#7b8794",
    },
    severities={"info": "#3a6ea5", "warning": "#a85400", "error": "#c3262d"},
)
DARK = Theme(
    name="dark",
    ink="#e8ecf1",
    muted="#9aa7b5",
    faint="#5f6d7c",
    grid="#232c37",
    panel="#151b23",
    accent="#4fd0c7",
    layers=("#6d7c8b", "#4fd0c7"),
    categories={
        "color": "#f0b030",
        "texture": "#8fd3ff",
        "material": "#2bc79a",
        "part": "#e59ac4",
        "object": "#4a9df0",
        "scene": "#ff8a4c",
        OTHER: "#8f9baa",
    },
    severities={"info": "#7db4ee", "warning": "#ffb454", "error": "#ff7b80"},
)


def theme(name: str | None) -> Theme:
    """The theme of that name; the light one if it is unknown."""
    return DARK if name == "dark" else LIGHT


def layer_colours(count: int, theme: Theme) -> list[str]:
    """One colour per layer, from quiet (first) to the accent (last).

    >>> layer_colours(1, LIGHT)
    ['#0b6e78']
    """
    first, last = (_rgb(colour) for colour in theme.layers)
    shares = [1.0] if count == 1 else [i / (count - 1) for i in range(count)]
    return ["#" + "".join(f"{round(a + (b - a) * s):02x}" for a, b in zip(first, last, strict=True)) for s in shares]


def fade(colour: str, opacity: float) -> str:
    """A ``#rrggbb`` colour with an opacity in [0, 1].

    >>> fade('#ff0000', 0.25)
    'rgba(255,0,0,0.25)'
    """
    red, green, blue = _rgb(colour)
    return f"rgba({red},{green},{blue},{opacity:.3g})"


def plain(text: object) -> str:
    """Text from outside, safe in a plot: Plotly reads tags in its labels, so they are escaped.

    >>> plain('<a href="x">bark</a>')
    '&lt;a href="x"&gt;bark&lt;/a&gt;'
    """
    return _escaped(str(text))


@lru_cache(maxsize=8192)
def _escaped(text: str) -> str:
    return escape(text, quote=False)  # a map has a word per neuron, again and again the same few hundred


def category_of(name: str) -> str:
    """The category's name as shown: itself if it is one of the six, else ``other``."""
    return name if name in CATEGORIES else OTHER


def axis(theme: Theme, title: str = "", **more: Any) -> dict[str, Any]:
    """An axis in the house style."""
    return {
        "title": {"text": title, "font": {"size": 11, "color": theme.muted}, "standoff": 8},
        "gridcolor": theme.grid,
        "linecolor": theme.grid,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"size": 11, "color": theme.muted},
        "automargin": False,
    } | more


def legend_on_top() -> dict[str, Any]:
    """A legend in a row at the top of the frame; leave it 32 pixels of the margin."""
    return {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "font": {"size": 11}}


def heading(text: str, height: float, theme: Theme) -> dict[str, Any]:
    """A line over one of several charts in a figure; ``height`` is a share of the figure's."""
    return {
        "text": plain(text),
        "x": 0,
        "y": height,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": theme.muted},
    }


def layout(theme: Theme, revision: str, margin: Sequence[int] = (58, 16, 12, 36), **more: Any) -> dict[str, Any]:
    """A figure's layout in the house style.

    Args:
        theme: colours.
        revision: while it stays the same, the user's zoom and selection stay, too.
        margin: left, right, top, bottom in pixels.
        **more: further keys of the layout.
    """
    left, right, top, bottom = margin
    return {
        "font": {"family": FONT, "size": 12, "color": theme.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": left, "r": right, "t": top, "b": bottom},
        "uirevision": revision,
        "autosize": True,
        "hoverlabel": {
            "bgcolor": theme.panel,
            "bordercolor": theme.faint,
            "font": {"family": FONT, "size": 12, "color": theme.ink},
            "align": "left",
        },
        "showlegend": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.faint, "activecolor": theme.accent},
    } | more


def map_layout(theme: Theme, revision: str, extent: Sequence[float], **more: Any) -> dict[str, Any]:
    """The layout of a map: no axes, as nothing but nearness has a meaning; dragging moves it.

    Args:
        theme: colours.
        revision: see `layout`.
        extent: what is shown, x0, x1, y0, y1.
        **more: further keys of the layout.
    """
    x0, x1, y0, y1 = extent
    hidden = {"visible": False, "fixedrange": False}
    axes = {"xaxis": {"range": [x0, x1]} | hidden, "yaxis": {"range": [y0, y1]} | hidden}
    return layout(theme, revision, (0, 0, 0, 0), **axes, dragmode="pan", hovermode="closest", **more)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
