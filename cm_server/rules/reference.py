"""BelowReference: the run does worse than a healthy one that the user chose, at the same step."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.core.alerting import Finding
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, amount, setting


@dataclass(frozen=True, kw_only=True)
class BelowReference(RuleSettings):
    """Compares levels (medians of 5) at the same step, within one fingerprint only."""

    amount: float = setting(0.02, "how far above the reference, as a share of d0", 0, 1)
    amount_of_scale: float = setting(0.06, "the same as a share of chance - ideal, where that is known", 0, 1)
    sigmas: float = setting(4.0, "and standard errors of the difference", 0, 100)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        if not view.defined:
            return True
        reference = view.about.reference.get(view.last.fingerprint)
        if not reference or not view.warm or view.step > reference[-1][0]:
            return False
        theirs = level_at(reference, view.step)
        trend = view.d_anchor.trend()
        much = amount(view, self.amount, self.amount_of_scale) * (0.5 if self.name in view.open else 1.0)
        behind = trend.level - theirs
        # Both levels are noisy; the reference's noise is taken to be this run's.
        if behind <= max(much, self.sigmas * trend.noise.long_run * (2 / 5) ** 0.5):
            return False
        message = (
            f"{view.last.layer}: d_anchor is {trend.level:.4f} where the reference run stood at {theirs:.4f} at the "
            f"same step ({behind:+.4f}; this run's values scatter by {trend.noise.sigma:.4f}). Something differs from "
            "the run you called healthy: compare the two configurations, then the two maps at this step."
        )
        return Finding("BelowReference", "warning", trend.level, message, {"reference": theirs, "behind": behind})


def level_at(reference: Sequence[tuple[int, float]], step: int) -> float:
    """The reference's level at a step: the median of the five snapshots around it.

    Args:
        reference: ``(step, d_anchor)`` by rising step, at least one.
        step: see above.
    """
    place = bisect.bisect_left(reference, (step, float("-inf")))
    begin = max(0, min(place - 2, len(reference) - 5))
    return float(np.median([value for _, value in reference[begin : begin + 5]]))
