"""ConceptStall, ConceptRise and DeadLayer: d_anchor rests, rises, or means nothing any more.

Distances are measured in the layer's own scale, ``chance - ideal`` (see :mod:`cm_server.core.temperature`): half a
percent of d_anchor is nothing with one encoder and all there is to gain with another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cm_server.core.alerting import Finding
from cm_server.core.trend import SAMPLES, Trend, measure
from cm_server.report import LayerSummary

WARM_UP = 20
"""Values before any rule on the trend speaks."""
STALL_DROP = 0.02
"""A stall: not even this share of the scale can be falling per 20 snapshots …"""
STALL_PROGRESS = 0.04
"""… and less than this share was won since step 0."""
RISE = 0.05
"""A rise: this share of the scale above the best level and proven to rise, or twice as much …"""
RISE_ERROR = 0.10
"""… and an error when d_anchor stands this share of the scale above where training began."""
_SIGMAS = 3.5
_DEAD_SHARE = 0.5


def find(series: Sequence[LayerSummary]) -> list[Finding]:
    """What the rules see at the end of a series of one fingerprint.

    Args:
        series: one summary per snapshot, oldest first, step 0 included.

    Returns:
        At most one finding per rule.
    """
    last = series[-1]
    if math.isnan(last.d_anchor):
        return [_dead(last)]
    values = np.array([point.d_anchor for point in series])
    values = values[np.isfinite(values)]
    scale = last.chance - last.ideal
    if len(values) < WARM_UP or not scale > 0:
        return []
    trend = measure(values, scale)
    found = (_rise(last, values, trend, scale), _stall(last, values, trend, scale))
    return [finding for finding in found if finding is not None][:1]


def _stall(last: LayerSummary, values: np.ndarray, trend: Trend, scale: float) -> Finding | None:
    progress = values[0] - trend.best
    if trend.high >= STALL_DROP * scale or progress >= STALL_PROGRESS * scale:
        return None
    message = (
        f"{last.layer}: d_anchor has stopped falling. It began at {values[0]:.4f} and has won only "
        f"{max(0.0, progress) / scale:.0%} of the {scale:.3f} between chance and one word per unit; over the last "
        f"{trend.window} snapshots it {_motion(trend)}. The layer's units are not becoming more diverse: "
        "check learning rate and data."
    )
    return Finding("ConceptStall", "warning", last.d_anchor, message + _dying(last), _details(values, trend, scale))


def _rise(last: LayerSummary, values: np.ndarray, trend: Trend, scale: float) -> Finding | None:
    above = trend.level - trend.best
    rising = trend.high < 0 or above > 2 * RISE * scale
    if not rising or above <= max(RISE * scale, _SIGMAS * trend.sigma):
        return None
    severity = "error" if trend.level - values[0] > RISE_ERROR * scale else "warning"
    message = (
        f"{last.layer}: d_anchor rises. It began at {values[0]:.4f}, was {trend.best:.4f} at best and is "
        f"{trend.level:.4f} now; over the last {trend.window} snapshots it {_motion(trend)}. "
        "The concepts we care about are losing their neurons: the learning rate may be too high."
    )
    return Finding("ConceptRise", severity, last.d_anchor, message + _dying(last), _details(values, trend, scale))


def _dead(last: LayerSummary) -> Finding:
    cause = f"{last.nonfinite} give NaN or infinity" if last.nonfinite else "each gives the same value for every image"
    message = (
        f"{last.layer}: none of its {last.units} units responds to the probe images any more ({cause}), so d_anchor "
        "means nothing. Training has most likely diverged: stop it and lower the learning rate."
    )
    return Finding("DeadLayer", "error", math.nan, message, {"nonfinite": last.nonfinite}, at_once=True)


def _motion(trend: Trend) -> str:
    low, high = sorted((trend.low, trend.high))
    verb = "fell" if trend.drop > 0 else "rose"
    if trend.drop < 0:
        low, high = -high, -low
    return f"{verb} by {abs(trend.drop):.4f} per {SAMPLES} snapshots ({low:+.4f} to {high:+.4f})"


def _dying(last: LayerSummary) -> str:
    if last.live >= _DEAD_SHARE * last.units:
        return ""
    return f" Only {last.live} of {last.units} units still respond at all."


def _details(values: np.ndarray, trend: Trend, scale: float) -> dict[str, object]:
    return asdict(trend) | {"start": float(values[0]), "scale": scale, "snapshots": len(values)}
