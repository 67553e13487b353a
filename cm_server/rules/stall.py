"""ConceptStall and ConceptPlateau: d_anchor rests, with nothing won or with its work done."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.trend import Slope
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, amount, dying, motion, numbers, setting, start, won

_GIVEN_BACK = {"ConceptJump", "ConceptRise"}
_PRECISION = 4
"""Standard errors of the slope that should fit into the drop that counts, if there are enough values for it."""


@dataclass(frozen=True, kw_only=True)
class _Resting(RuleSettings):
    drop: float = setting(0.010, "resting: surely falls by less than this per 20 snapshots, as a share of d0", 0, 1)
    drop_of_scale: float = setting(0.020, "the same as a share of chance - ideal, where that is known", 0, 1)
    creep: float = setting(0.0015, "not resting: probably falls by this or more, as a share of d0", 0, 1)
    creep_of_scale: float = setting(0.005, "the same as a share of chance - ideal", 0, 1)
    progress: float = setting(0.05, "what counts as won since step 0, as a share of d0", 0, 1)
    progress_of_scale: float = setting(0.04, "the same as a share of chance - ideal", 0, 1)
    sigmas: float = setting(1.64, "standard errors that make 'surely'", 0, 20)
    creep_sigmas: float = setting(0.7, "standard errors that make 'probably'", 0, 20)
    turn: float = setting(1.0, "standard errors below the values before that make the last 5 a fall that begins", 0, 20)

    def _resting(self, view: View) -> Slope | None:
        """The slope, if the series rests; a rest that fires already ends only when the fall is beyond doubt."""
        much = amount(view, self.drop, self.drop_of_scale)
        slope = view.d_anchor.slope(much / _PRECISION)
        if self.name in view.open:
            return None if slope.drop - self.sigmas * slope.error > 0 and slope.drop > much else slope
        falls = slope.drop - self.creep_sigmas * slope.error > amount(view, self.creep, self.creep_of_scale)
        begins = view.d_anchor.trend().turning >= self.turn
        return slope if slope.drop + self.sigmas * slope.error < much and not falls and not begins else None

    def _has_won(self, view: View) -> bool:
        # The best is taken with its uncertainty against us: the smallest of many noisy levels is no progress.
        enough = amount(view, self.progress, self.progress_of_scale)
        trend = view.d_anchor.trend()
        return trend.start - trend.reference >= enough * (1.2 if self.name in view.open else 1.0)


@dataclass(frozen=True, kw_only=True)
class ConceptStall(_Resting):
    """Not even a little is falling, and hardly anything was won: a warning, late in the run an error."""

    error_after: float = setting(0.4, "share of the planned steps after which it is an error", 0, 1)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect != "fall":
            return False
        if view.found & _GIVEN_BACK:
            return self.name in view.open  # worse than a stall is no end of it
        slope = self._resting(view)
        if slope is None or self._has_won(view):
            return False
        trend = view.d_anchor.trend()
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
    """At rest with its work done: information, never sent out."""

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect != "fall" or view.found or _GIVEN_BACK & set(view.open):
            return False
        slope = self._resting(view)
        if slope is None or not self._has_won(view):
            return False
        trend = view.d_anchor.trend()
        message = (
            f"{view.last.layer}: d_anchor has come to rest at {trend.level:.4f}, from {start(trend)}; it has won "
            f"{won(view, trend)}. {motion(slope).capitalize()}. Converged, as healthy runs do; training further will "
            "hardly add concepts to this layer."
        )
        details = numbers(trend, slope, snapshots=view.count, scale=view.scale)
        return Finding("ConceptPlateau", "info", trend.level, message, details)
