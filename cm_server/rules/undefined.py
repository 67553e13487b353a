"""NonFinite and DeadLayer: d_anchor means nothing any more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, setting


@dataclass(frozen=True, kw_only=True)
class NonFinite(RuleSettings):
    """NaN or infinity among the activations: an error at once."""

    share: float = setting(0.0, "units with NaN or infinity that are let pass, as a share", 0, 1)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        last = view.last
        undefined = not view.defined and last.live > 0
        if not undefined and last.nonfinite <= self.share * last.units:
            return False
        what = f"{last.nonfinite} of its {last.units} units give" if last.nonfinite else "d_anchor is"
        message = (
            f"{last.layer}: {what} NaN or infinity at step {view.step:,}. That is certain, and it does not heal: "
            "training has diverged, or overflows in half precision. Stop the run, lower the learning rate (or the loss "
            "scale), and begin again from the last checkpoint before this step."
        )
        return Finding("NonFinite", "error", last.d_anchor, message, {"nonfinite": last.nonfinite}, at_once=True)


@dataclass(frozen=True, kw_only=True)
class DeadLayer(RuleSettings):
    """No unit of the layer responds to anything: an error at once."""

    def find(self, view: View) -> Finding | bool:
        """See `Rule`."""
        last = view.last
        if last.live > 0 or view.found:
            return False
        message = (
            f"{last.layer}: none of its {last.units} units responds to the probe images any more (each gives the same "
            "value for every image), so d_anchor means nothing. Training has most likely diverged: stop it and lower "
            "the learning rate."
        )
        return Finding("DeadLayer", "error", math.nan, message, {"live": 0, "units": last.units}, at_once=True)
