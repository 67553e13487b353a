"""The file around a report's sections: styles, plotly and figures inside it, a policy that forbids all else. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

THEMES = ("light", "dark")
CONFIG = {"displayModeBar": False, "responsive": True, "showTips": False, "doubleClick": "reset", "scrollZoom": False}
SCRIPT = """
(function () {
    'use strict';
    const figures = JSON.parse(document.getElementById('figures').textContent);
    const config = JSON.parse(document.getElementById('config').textContent);
    const root = document.documentElement;
    const draw = () => {
        for (const place of document.querySelectorAll('[data-figure]')) {
            const figure = figures[place.dataset.figure][root.dataset.theme];
            window.Plotly.react(place, figure.data, figure.layout, config);
        }
    };
    const dark = window.matchMedia && window.matchMedia('(prefers-color-scheme: dark)').matches;
    if (root.dataset.theme === 'auto') root.dataset.theme = dark ? 'dark' : 'light';
    document.getElementById('scheme').addEventListener('click', () => {
        root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
        draw();
    });
    draw();
})();
"""
STYLE = """
body.report { padding: 0 20px 40px; max-width: 1180px; margin: 0 auto; }
.report header { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; padding: 22px 0 6px; }
.report header h1 { margin: 0; overflow-wrap: anywhere; }
.report .facts-line { margin: 0 0 14px; }
.report .panel { margin-bottom: 14px; break-inside: avoid; }
.report .plot-frame { position: relative; min-height: 80px; }
.report .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 14px 22px; }
.report .card h3 { margin: 0; }
.report .images { grid-template-columns: repeat(6, 1fr); margin-top: 6px; }
.report details summary { color: var(--muted); cursor: pointer; width: max-content; }
.report #alerts-list { overflow: visible; }
@media print { #scheme { display: none; } }
@media (max-width: 700px) { body.report { padding: 0 10px 30px; } }
"""


@dataclass
class Figures:
    """The figures of a document, each once per theme; ``place`` puts one into the text."""

    found: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def place(self, figures: Mapping[str, Any], label: str, height: int) -> str:
        """Registers a figure in both themes and returns the element it will be drawn in.

        Args:
            figures: by theme, plain dicts.
            label: for screen readers.
            height: in pixels.
        """
        name = f"f{len(self.found)}"
        self.found[name] = figures
        return (
            f'<div class="plot-frame" role="img" aria-label="{escape(label)}">'
            f'<div data-figure="{name}" style="height:{int(height)}px"></div></div>'
        )


def document(
    title: str, sections: Sequence[str], figures: Figures, plotly: str, styles: Sequence[str], theme: str = "auto"
) -> str:
    """The whole file.

    Args:
        title: plain text.
        sections: HTML, already safe.
        figures: what the sections refer to.
        plotly: plotly.js.
        styles: style sheets.
        theme: ``light``, ``dark``, or ``auto`` for the reader's own.
    """
    scripts = [_inside(plotly), SCRIPT]
    policy = (
        f"default-src 'none'; script-src {' '.join(_hash(script) for script in scripts)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(sections)
    return f"""<!doctype html>
<html lang="en" data-theme="{escape(theme)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{"".join(styles)}{STYLE}</style>
</head>
<body class="app report">
{body}
<noscript><p class="quiet">The charts need JavaScript, which is inside this file; the tables do not.</p></noscript>
<script type="application/json" id="figures">{_data(figures.found)}</script>
<script type="application/json" id="config">{_data(CONFIG)}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _data(value: Any) -> str:
    """JSON that cannot end its own element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _inside(script: str) -> str:
    return script.replace("</script", "<\\/script")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
