"""DeadUnits, InterpretableCollapse and MissingCategories: units lose voice, meaning, or the higher words."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, setting


@dataclass(frozen=True, kw_only=True)
class DeadUnits(RuleSettings):
    """Units that give one value for every image are lost for every concept."""

    share: float = setting(0.5, "share of the units alive at step 0 that died, for a warning", 0, 1)
    error_share: float = setting(0.9, "the same for an error", 0, 1)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`; nothing where all are dead (then d_anchor is undefined, an alert of its own)."""
        first, last = view.first, view.last
        lost = 1 - last.live / first.live if first.live else 0.0
        enough = self.share * (0.9 if self.name in view.open else 1.0)
        if last.live == 0 or lost < enough:
            return False
        message = (
            f"{last.layer}: {first.live - last.live} of the {first.live} units that responded at step 0 now give the "
            f"same value for every probe image; {last.live} are left to carry concepts. Dead units rarely come back: "
            "the learning rate is probably too high."
        )
        severity = "error" if lost >= self.error_share else "warning"
        return Finding("DeadUnits", severity, float(last.live), message, {"live": last.live, "units": last.units})


@dataclass(frozen=True, kw_only=True)
class InterpretableCollapse(RuleSettings):
    """Far fewer units follow any word than did before."""

    share: float = setting(0.5, "share of the best number so far that is gone, for a warning", 0, 1)
    error_share: float = setting(0.8, "the same for an error", 0, 1)
    least: float = setting(0.1, "smallest best number, as a share of the layer's units", 0, 1)
    sigmas: float = setting(4.0, "and standard deviations of its noise", 0, 100)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        best = -view.interpretable.best
        if not view.warm or best < max(1.0, self.least * view.last.units):
            return False
        trend = view.interpretable.trend()
        now = -trend.level
        lost = 1 - now / best
        enough = self.share * (0.8 if self.name in view.open else 1.0)
        if lost < enough or best - now < self.sigmas * trend.noise.sigma:
            return False
        message = (
            f"{view.last.layer}: {now:.0f} of its {view.last.units} units still follow a word; around step "
            f"{trend.best_step:,} it was {best:.0f}. Units that respond without following anything are typical of a "
            "learning rate too high, of labels without signal, or of weights that hardly train at all."
        )
        details = {"best": best, "level": now, "best_step": trend.best_step, "since_step": trend.best_step}
        return Finding(
            "InterpretableCollapse", "error" if lost >= self.error_share else "warning", now, message, details
        )


@dataclass(frozen=True, kw_only=True)
class MissingCategories(RuleSettings):
    """Late in training, and no unit follows a word of the higher categories."""

    categories: tuple[str, ...] = setting(("object", "scene"), "at least one unit should follow one of these")
    after: float = setting(0.5, "share of the planned steps from which that is expected", 0, 1)
    snapshots: int = setting(60, "snapshots from which it is expected where the length is unknown", 1, 1_000_000)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        known = view.about.categories
        wanted = [c for c in self.categories if known is None or c in known]
        if not view.defined:
            return True
        if not wanted or not self._late(view) or (known is None and not view.last.categories):
            return False
        if any(view.last.categories.get(name, 0) for name in wanted):
            return False
        message = (
            f"{view.last.layer}: at step {view.step:,} none of its {view.last.interpretable} interpretable units "
            f"follows a word for {' or '.join(wanted)}. Deep layers of a healthy network do by now; what is left "
            "are colours, textures and parts. Is this the layer that should carry them, and does it train at all?"
        )
        return Finding("MissingCategories", "warning", 0.0, message, {"categories": dict(view.last.categories)})

    def _late(self, view: View) -> bool:
        planned = view.about.planned_steps
        if planned is None:
            return view.count >= self.snapshots
        return view.warm and view.step >= self.after * planned
