"""The anchors that people added, as stars on a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cm_server.anchors import UserAnchor
from dashboard import theme as look
from dashboard.theme import Theme

GLYPHS = {"wanted": "★", "undesirable": "✖"}
SAID = {"wanted": "wanted", "undesirable": "unwanted"}
SYMBOLS = {"wanted": "star", "undesirable": "x"}


def tint(wish: str, theme: Theme) -> str:
    """Colour of a wish; its symbol tells it, too."""
    return theme.accent if wish == "wanted" else theme.severities["error"]


def stars(anchors: Sequence[UserAnchor], theme: Theme) -> dict[str, Any]:
    """One mark per anchor, with its word: a star where it is wanted, a cross where it is not."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "added anchors",
        "x": [round(anchor.place[0], 4) for anchor in anchors],
        "y": [round(anchor.place[1], 4) for anchor in anchors],
        "text": [look.plain(anchor.word) for anchor in anchors],
        "textposition": "bottom center",
        "textfont": {"size": 12, "color": [tint(anchor.wish, theme) for anchor in anchors]},
        "hovertext": [look.plain(f"{anchor.word}: {anchor.wish} anchor") for anchor in anchors],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": [SYMBOLS[anchor.wish] for anchor in anchors],
            "size": 15,
            "color": [tint(anchor.wish, theme) for anchor in anchors],
            "line": {"color": theme.panel, "width": 1.5},
        },
    }
