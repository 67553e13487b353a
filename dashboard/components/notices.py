"""What must be said about the view before anybody reads a number off it: each a sentence, none if all is plain."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.data import RunData
from dashboard.view import View

SHOWN = 3
"""Most sentences at once."""


def notices(here: View, data: RunData | None) -> list[str]:
    """Sentences for the line under the header, the most urgent first."""
    if data is None or not data.longest():
        return []
    layer = data.layer(here.layer)
    found = [*_layer(here, data, layer), *_gap(here, data, layer), *_incomparable(here, data, layer)]
    return found[:SHOWN]


def _layer(here: View, data: RunData, layer: str | None) -> list[str]:
    if here.layer is None or here.layer == layer:
        return []
    return [f"The layer “{here.layer}” is not captured in this run; what you see is {layer}."]


def _gap(here: View, data: RunData, layer: str | None) -> list[str]:
    """A past step whose own capture was lost: what is shown is older than what was asked for."""
    point = data.at(layer, here.step)
    if here.step is None or point is None:
        return []
    if point.step > here.step:
        return [f"Step {here.step:,} is before the first snapshot; what you see is step {point.step:,}."]
    lost = [gap for gap in data.gaps if point.step < gap.step <= here.step]
    if not lost:
        return []
    reason = lost[-1].reason or "no reason was given"
    return [f"The capture at step {lost[-1].step:,} was lost ({reason}); what you see is step {point.step:,}."]


def _incomparable(here: View, data: RunData, layer: str | None) -> list[str]:
    """A past step under other settings than the newest one: the two may not be compared."""
    shown, newest = data.at(layer, here.step), data.at(layer, None)
    if shown is None or newest is None or shown.summary.fingerprint == newest.summary.fingerprint:
        return []
    return [
        f"Step {shown.step:,} was measured with other settings than the newest step "
        f"({_difference(shown.summary, newest.summary)}): do not compare their numbers."
    ]


_NAMES: Sequence[tuple[str, str]] = (
    ("kind", "kind of capture"),
    ("temperature", "T"),
    ("probes", "probe images"),
    ("concepts", "words"),
    ("anchors", "anchors"),
    ("units", "units"),
)


def _difference(before, after) -> str:
    """Which settings differ, as far as the summaries tell; the fingerprint covers more than they do."""
    found = [
        f"{name} {_plain(getattr(before, key))} there, {_plain(getattr(after, key))} now"
        for key, name in _NAMES
        if getattr(before, key) != getattr(after, key) and getattr(before, key) == getattr(before, key)
    ]
    return "; ".join(found) or "encoder, detector, words or probe images"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
