"""ConceptRise and ConceptJump: what was won is given back, slowly or within a few snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.core.alerting import GROWING, Finding, Severity
from cm_server.core.trend import Trend
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, amount, dying, motion, numbers, setting, start


@dataclass(frozen=True, kw_only=True)
class _Standing(RuleSettings):
    hold: int = setting(2, "snapshots in a row that it must hold for to fire", 1, 1000)
    error: float = setting(0.05, "given back that makes it an error, as a share of d0", 0, 1)
    error_of_scale: float = setting(0.15, "the same as a share of chance - ideal, where that is known", 0, 1)
    error_progress: float = setting(0.5, "the same as a share of what was won", 0, 1)
    early: int = setting(45, "snapshots before a rise counts where nothing was won yet (a first hump)", 0, 100_000)

    def _weight(self, view: View, trend: Trend, floor: float) -> tuple[Severity, bool]:
        """How bad it is, and whether a warning is about to become an error."""
        above, progress = trend.level - trend.best, trend.start - trend.best
        worst = amount(view, self.error, self.error_of_scale)
        limit = min(worst, max(2 * floor, self.error_progress * progress))
        if above > limit:
            return "error", False
        return "warning", above + GROWING * trend.pace > limit

    def _too_early(self, view: View, trend: Trend, floor: float) -> bool:
        return view.d_anchor.count < self.early and trend.start - trend.best < 2 * floor

    def _kept(self, view: View, trend: Trend, floor: float) -> bool:
        """Whether an alert that fires has reason to: half of what it takes to begin."""
        return trend.level - trend.best > floor / 2 and trend.above(1.0) > 0


@dataclass(frozen=True, kw_only=True)
class ConceptJump(_Standing):
    """Within a few snapshots d_anchor stands well above what it was."""

    amount: float = setting(0.02, "smallest jump, as a share of d0", 0, 1)
    amount_of_scale: float = setting(0.10, "the same as a share of chance - ideal, where that is known", 0, 1)
    sigmas: float = setting(6.0, "and at least this many standard deviations of the noise", 0, 100)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect == "rise" or "ConceptRise" in view.open:
            return False
        trend = view.d_anchor.trend()
        floor = amount(view, self.amount, self.amount_of_scale) * (1 if view.about.expect == "fall" else 2)
        if self.name not in view.open and not self._jumped(view, trend, floor):
            return False
        if self.name in view.open and not self._kept(view, trend, floor):
            return False
        message = (
            f"{view.last.layer}: d_anchor jumped. It began at {start(trend)}, was {trend.best:.4f} at best (step "
            f"{trend.best_step:,}) and {trend.before:.4f} before the jump; it is {trend.level:.4f} now, "
            f"{_in_noise(trend)} above the best. The units lost concepts within a few snapshots: that is most often a "
            "learning rate too high (a warm restart, a schedule's step), a bad batch, or a checkpoint loaded only in "
            "part. Look at the loss around this step."
        )
        details = numbers(trend, view.d_anchor.slope(floor / 4), since_step=trend.best_step)
        severity, growing = self._weight(view, trend, floor)
        return Finding("ConceptJump", severity, trend.level, message + dying(view), details, growing=growing)

    def _jumped(self, view: View, trend: Trend, floor: float) -> bool:
        much = max(floor, self.sigmas * trend.noise.sigma)
        return (
            trend.level - trend.before > much
            and trend.level - trend.best > much
            and not self._too_early(view, trend, floor)
        )


@dataclass(frozen=True, kw_only=True)
class ConceptRise(_Standing):
    """d_anchor stands above its best by more than its noise can explain."""

    amount: float = setting(0.01, "smallest rise above the best level, as a share of d0", 0, 1)
    amount_of_scale: float = setting(0.05, "the same as a share of chance - ideal, where that is known", 0, 1)
    sigmas: float = setting(7.0, "standard errors by which a level must stand above the best one", 0, 100)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        if not view.warm or view.about.expect != "fall" or "ConceptJump" in view.found | set(view.open):
            return False
        trend = view.d_anchor.trend()
        floor = amount(view, self.amount, self.amount_of_scale)
        severity, growing = self._weight(view, trend, floor)
        if self.name in view.open:
            if not self._kept(view, trend, floor):
                return False
        elif not self._rises(view, trend, floor) or ("ConceptStall" in view.open and severity != "error"):
            return False
        slope = view.d_anchor.slope(floor / 4)
        message = (
            f"{view.last.layer}: d_anchor rises. It began at {start(trend)}, was {trend.best:.4f} at best (step "
            f"{trend.best_step:,}) and is {trend.level:.4f} now{_given_back(trend)}; {motion(slope)}. The concepts we "
            "care about are losing their units. That usually means a learning rate too high, overfitting without "
            "augmentation, or a change in the data: compare the units that moved with those of the best step."
        )
        details = numbers(trend, slope, since_step=trend.best_step)
        return Finding("ConceptRise", severity, trend.level, message + dying(view), details, growing=growing)

    def _rises(self, view: View, trend: Trend, floor: float) -> bool:
        stands = trend.level - trend.best > floor and trend.above(self.sigmas) > 0
        return stands and not self._too_early(view, trend, floor)


def _in_noise(trend: Trend) -> str:
    above, sigma = trend.level - trend.best, trend.noise.sigma
    return f"{above / sigma:.0f} times its noise" if sigma > 0 else f"{above:.4f}"


def _given_back(trend: Trend) -> str:
    progress = trend.start - trend.best
    if progress <= 0 or trend.level > trend.start:
        return ", above where it began"
    return f", {(trend.level - trend.best) / progress:.0%} of what was won given back"
