"""The help overlay: every key, as ``assets/keys.js`` understands it."""

from __future__ import annotations

from dash import html

from dashboard.components.aria import aria, data

KEYS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Time", ("←", "→"), "the snapshot before, after"),
    ("Time", ("Shift ←", "Shift →"), "ten snapshots back, on"),
    ("Time", ("Space",), "play from here to the end; again: pause"),
    ("Time", ("L",), "follow live"),
    ("Place", ("1", "… 9"), "the pages of the run, in the order of the tabs"),
    ("Place", ("[", "]"), "the layer before, after"),
    ("Place", (",", "."), "the neuron before, after (on the map)"),
    ("Place", ("Esc",), "close what is open; let go of the neuron"),
    ("Map", ("K",), "track the chosen neuron"),
    ("Map", ("M",), "mark this step: tracked neurons show where they stood"),
    ("View", ("T",), "every chart as a table, and back"),
    ("View", ("D",), "dark or light"),
    ("View", ("⌘K", "Ctrl K"), "find runs, neurons, concepts, pages"),
    ("View", ("?",), "these keys"),
)


def overlay():
    """The dialog of the keys, closed; ``?`` opens it."""
    groups = list(dict.fromkeys(group for group, _, _ in KEYS))
    hint = "Tab reaches every control; on the slider Home and End lead to the first snapshot and to live."
    parts = [part for group in groups for part in _group(group)]
    return dialog("keys", "Keys", [*parts, html.P(hint, className="summary")])


def dialog(name: str, title: str, children: list):
    """A closed dialog; a button with ``data-dialog`` of its name opens it, Escape and its cross close it."""
    close = html.Button("✕", className="icon", **data(dialog=name), **aria(label="Close"))
    return html.Dialog(
        html.Div(
            [html.Div([html.H2(title, id=f"{name}-title"), close], className="card-head"), *children],
            className="dialog-inside",
            tabIndex=0,
        ),
        id=name,
        className="dialog",
        **aria(labelledby=f"{name}-title"),
    )


def _group(group: str) -> list:
    rows = [
        html.Div([html.Dt([html.Kbd(key) for key in keys]), html.Dd(meaning)])
        for name, keys, meaning in KEYS
        if name == group
    ]
    return [html.H3(group), html.Dl(rows)]
