"""ConceptStall and ConceptPlateau: d_anchor rests, with nothing won or with its work done."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.rest import rest_odds
from cm_server.core.slope import Slope
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, amount, dying, motion, numbers, setting, start, won

_GIVEN_BACK = {"ConceptJump", "ConceptRise"}
_PRECISION = 4
"""Standard errors of the slope that should fit into the drop that counts, if there are enough values for it."""
_SPREAD = 13
"""How many times the slowest the fastest of the falls is that rest is weighed against."""


@dataclass(frozen=True, kw_only=True)
class _Resting(RuleSettings):
    slowest: float = setting(0.003, "slowest fall of a healthy run per 20 snapshots, as a share of d0", 1e-6, 1)
    slowest_of_scale: float = setting(0.008, "the same as a share of chance - ideal, where that is known", 1e-6, 1)
    odds: float = setting(6.0, "resting: the values are so many times likelier at rest than in a fall", 1, 1e9)
    drop: float = setting(0.010, "rests no more: surely falls, by this or more per 20 snapshots, of d0", 0, 1)
    drop_of_scale: float = setting(0.020, "the same as a share of chance - ideal", 0, 1)
    sigmas: float = setting(1.64, "standard errors that make 'surely'", 0, 20)
    progress: float = setting(0.05, "what counts as won since step 0, as a share of d0", 0, 1)
    progress_of_scale: float = setting(0.04, "the same as a share of chance - ideal", 0, 1)

    def _resting(self, view: View) -> bool:
        """Whether the series rests; a rest that fires already ends only when a fall is beyond doubt."""
        if self.name not in view.open:
            return self._odds(view) > self.odds
        slope = self._slope(view)
        falls = slope.drop > max(amount(view, self.drop, self.drop_of_scale), self.sigmas * slope.error)
        return not falls or self._odds(view) > 1

    def _odds(self, view: View) -> float:
        slowest = amount(view, self.slowest, self.slowest_of_scale)
        return rest_odds(view.d_anchor.slopes(), slowest, _SPREAD * slowest) if slowest > 0 else 0.0

    def _slope(self, view: View) -> Slope:
        return view.d_anchor.slope(amount(view, self.drop, self.drop_of_scale) / _PRECISION)

    def _has_won(self, view: View) -> bool:
        # The best is taken with its uncertainty against us: the smallest of many noisy levels is no progress.
        enough = amount(view, self.progress, self.progress_of_scale)
        trend = view.d_anchor.trend()
        return trend.start - trend.reference >= enough * (1.2 if self.name in view.open else 1.0)


@dataclass(frozen=True, kw_only=True)
class ConceptStall(_Resting):
    """Not even a little is falling, and hardly anything was won: a warning, late in the run an error."""

    hold: int = setting(1, "snapshots in a row that it must hold for to fire", 1, 1000)
    error_after: float = setting(0.4, "share of the planned steps after which it is an error", 0, 1)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect != "fall":
            return False
        if view.found & _GIVEN_BACK:
            return self.name in view.open  # worse than a stall is no end of it
        if self._has_won(view) or not self._resting(view):
            return False
        trend, slope = view.d_anchor.trend(), self._slope(view)
        planned = view.about.planned_steps
        late = planned is not None and view.step >= self.error_after * planned
        message = (
            f"{view.last.layer}: d_anchor is not falling. It began at {start(trend)}, is {trend.level:.4f} now and "
            f"has won {won(view, trend)}; {motion(slope)}. The layer's units are not becoming more diverse. That "
            "usually means a learning rate far too low or too high, frozen layers, or labels that carry no signal: "
            "look at the loss, then at what the units answer to here."
        )
        details = numbers(trend, slope, since_step=view.first_step, snapshots=view.count, scale=view.scale)
        return Finding("ConceptStall", "error" if late else "warning", trend.level, message + dying(view), details)


@dataclass(frozen=True, kw_only=True)
class ConceptPlateau(_Resting):
    """At rest with its work done: information, never sent out, and so less sure."""

    slowest: float = setting(0.010, "slowest fall that is worth going on for, per 20 snapshots, of d0", 1e-6, 1)
    slowest_of_scale: float = setting(0.020, "the same as a share of chance - ideal", 1e-6, 1)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect != "fall" or view.found or _GIVEN_BACK & set(view.open):
            return False
        if not self._has_won(view) or not self._resting(view):
            return False
        trend, slope = view.d_anchor.trend(), self._slope(view)
        message = (
            f"{view.last.layer}: d_anchor has come to rest at {trend.level:.4f}, from {start(trend)}; it has won "
            f"{won(view, trend)}. {motion(slope).capitalize()}. Converged, as healthy runs do; training further will "
            "hardly add concepts to this layer."
        )
        details = numbers(trend, slope, snapshots=view.count, scale=view.scale)
        return Finding("ConceptPlateau", "info", trend.level, message, details)
