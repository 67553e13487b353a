"""DeadUnits: units that give the same value for every image are lost for every concept."""

from __future__ import annotations

from collections.abc import Sequence

from cm_server.core.alerting import Finding
from cm_server.report import LayerSummary

WARNING_SHARE = 0.5
ERROR_SHARE = 0.9


def find(series: Sequence[LayerSummary]) -> list[Finding]:
    """What is seen at the end of a series of one fingerprint.

    Args:
        series: one summary per snapshot, oldest first.

    Returns:
        One finding if half of the units that lived at step 0 are dead; none when all are (then d_anchor is undefined,
        which is an alert of its own).
    """
    first, last = series[0], series[-1]
    lost = 1 - last.live / first.live if first.live else 0.0
    if last.live == 0 or lost < WARNING_SHARE:
        return []
    severity = "error" if lost >= ERROR_SHARE else "warning"
    message = (
        f"{last.layer}: {first.live - last.live} of the {first.live} units that responded at step 0 now give the same "
        f"value for every probe image; {last.live} are left to carry concepts. Dead units rarely come back: "
        "the learning rate is probably too high."
    )
    return [Finding("DeadUnits", severity, float(last.live), message, {"live": last.live, "units": last.units})]
