"""The help overlay: every key, as ``assets/keys.js`` understands it."""

from __future__ import annotations

from dash import html

from dashboard.components.aria import aria

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
    """The dialog, closed; ``?`` opens it."""
    groups = list(dict.fromkeys(group for group, _, _ in KEYS))
    return html.Dialog(
        html.Div(
            [
                html.Div(
                    [
                        html.H2("Keys", id="keys-title"),
                        html.Button("✕", id="keys-close", className="icon", **aria(label="Close")),
                    ],
                    className="card-head",
                ),
                *[part for group in groups for part in _group(group)],
                html.P(
                    "Tab reaches every control; on the slider Home and End lead to the first snapshot and to live.",
                    className="summary",
                ),
            ],
            className="keys-inside",
        ),
        id="keys",
        className="keys",
        **aria(labelledby="keys-title"),
    )


def _group(group: str) -> list:
    rows = [
        html.Div([html.Dt([_key(key) for key in keys]), html.Dd(meaning)])
        for name, keys, meaning in KEYS
        if name == group
    ]
    return [html.H3(group), html.Dl(rows)]


def _key(key: str):
    return html.Kbd(key)
