"""What a rule is made of, and the amounts it measures in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from cm_server.core.slope import SAMPLES, Slope
from cm_server.core.trend import Trend
from cm_server.core.watching import View


def setting(default: Any, help_text: str, low: float | None = None, high: float | None = None) -> Any:
    """A rule's setting: its default, one line of help, and the smallest and largest value allowed."""
    return field(default=default, metadata={"help": help_text, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """What every rule can be told; each rule is a frozen dataclass derived from this, with `find`."""

    enabled: bool = setting(True, "whether the rule is asked at all")
    hold: int = setting(3, "snapshots in a row that it must hold for to fire", 1, 1000)
    clear: int = setting(5, "snapshots in a row that it must be absent for to resolve", 1, 1000)

    @property
    def name(self) -> str:
        """Of the alert, and of the rule's table in a TOML file."""
        return type(self).__name__


def amount(view: View, of_start: float, of_scale: float) -> float:
    """How much is much for this layer, in the units of d_anchor.

    Half a percent of d_anchor is nothing with one encoder and all there is to gain with another, so a share of
    ``chance - ideal`` is used where that is known, and a share of d_anchor at step 0 where it is not.
    """
    return of_scale * view.scale if math.isfinite(view.scale) else of_start * view.d_anchor.start


def motion(slope: Slope) -> str:
    """What the series did lately, with how sure that is."""
    low, high = sorted((slope.drop - 2 * slope.error, slope.drop + 2 * slope.error))
    if low <= 0 <= high:
        return (
            f"over the last {slope.window} snapshots it moved by {-slope.drop:+.4f} per {SAMPLES} snapshots, "
            f"which is within its noise ({-high:+.4f} to {-low:+.4f})"
        )
    verb = "fell" if slope.drop > 0 else "rose"
    ends = sorted((abs(low), abs(high)))
    return (
        f"over the last {slope.window} snapshots it {verb} by {abs(slope.drop):.4f} per {SAMPLES} snapshots "
        f"(95 % sure of {ends[0]:.4f} to {ends[1]:.4f})"
    )


def start(trend: Trend) -> str:
    """Where a series began, in words: one odd first value is no start, so it is not what step 0 alone shows."""
    return f"{trend.start:.4f} (median of its first three values)"


def won(view: View, trend: Trend) -> str:
    """What was won since then, in words."""
    gain = max(0.0, trend.start - trend.best)
    if math.isfinite(view.scale):
        return f"{gain / view.scale:.0%} of the {view.scale:.3f} between chance and one word per unit"
    return f"{gain / trend.start:.1%} of it"


def dying(view: View) -> str:
    """A sentence on units that no longer respond, where half of them or more do not."""
    last = view.last
    if last.live >= 0.5 * last.units:
        return ""
    return f" Only {last.live} of its {last.units} units still respond at all."


def numbers(trend: Trend, slope: Slope, **more: object) -> dict[str, object]:
    """The figures behind a finding on the trend, as they are stored."""
    return {
        "start": trend.start,
        "best": trend.best,
        "best_step": trend.best_step,
        "level": trend.level,
        "drop": slope.drop,
        "low": slope.drop - 2 * slope.error,
        "high": slope.drop + 2 * slope.error,
        "window": slope.window,
        "sigma": trend.noise.sigma,
        **more,
    }
