"""The palette's dialog, closed; ``assets/palette.js`` opens and fills it."""

from __future__ import annotations

from dash import html

from dashboard.components.aria import aria


def palette():
    """A search field over a list of what it finds."""
    # A plain <input> made by the script: a Dash input would send every key to the server.
    field = html.Div(id="palette-place")
    return html.Dialog(
        html.Div(
            [
                field,
                html.Div(id="palette-hits", className="palette-hits", role="listbox", **aria(label="Found")),
                html.P(
                    [html.Kbd("↑"), html.Kbd("↓"), "choose ", html.Kbd("Enter"), "open ", html.Kbd("Esc"), "close"],
                    className="summary palette-foot",
                ),
            ]
        ),
        id="palette",
        className="palette",
        **aria(label="Find anything"),
    )


def button():
    """What opens it for those who do not know the key."""
    return html.Button(
        [html.Span("⌕", **aria(hidden="true")), html.Kbd("⌘K")],
        id="palette-button",
        className="text-button palette-button",
        title="Find runs, neurons, concepts, pages (⌘K or Ctrl K)",
        **aria(label="Find runs, neurons, concepts, pages"),
    )
