"""What is tracked on the map, as buttons that let go of it, and the map's words about it."""

from __future__ import annotations

from dash import html

from dashboard.components.aria import aria, data
from dashboard.figures.tracked import MOST_STEPS, MOST_UNITS
from dashboard.view import View


def tracked_bar(here: View, step: int) -> list:
    """Buttons: track the selected neuron, mark the step shown, and one per thing that is tracked or marked."""
    return [
        *_track(here),
        *_mark(here, step),
        *[_chip("track", unit, f"neuron {unit}") for unit in here.track],
        *[_chip("marks", mark, f"step {mark:,}") for mark in here.marks],
    ]


def _track(here: View) -> list:
    if here.unit is None or here.unit in here.track or len(here.track) >= MOST_UNITS:
        return []
    title = "Keep this neuron on the map with its way through the marked steps (K)"
    return [_button("track", here.unit, f"Track neuron {here.unit}", title)]


def _mark(here: View, step: int) -> list:
    if not here.track or step in here.marks or len(here.marks) >= MOST_STEPS:
        return []
    return [_button("marks", step, f"Mark step {step:,}", "Show where the tracked neurons stood at this step (M)")]


def _button(name: str, value: int, text: str, title: str):
    return html.Button(text, title=title, className="small", **data(toggle=name, value=str(value)))


def _chip(name: str, value: int, text: str):
    return html.Button(
        [text, html.Span(" ✕", **aria(hidden="true"))],
        className="small on",
        **data(toggle=name, value=str(value)),
        **aria(label=f"Let go of {text}"),
    )
