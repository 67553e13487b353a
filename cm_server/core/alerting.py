"""From findings to alerts: a state machine, events in, transitions out. No clock, no store, no network.

``ok -> pending -> firing -> recovering -> resolved``, and ``ended`` when the run is over: a finding must hold on
`HOLD` evaluations in a row to fire, and be absent on `CLEAR` in a row to resolve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HOLD = 3
CLEAR = 5
RANK = {"info": 0, "warning": 1, "error": 2}


@dataclass(frozen=True)
class Finding:
    """What a rule sees at one evaluation.

    Attributes:
        rule: its name.
        severity: ``info``, ``warning`` or ``error``.
        value: d_anchor, or whatever the rule watches.
        message: the reading in plain words.
        details: the numbers behind it.
        at_once: fires without waiting for `HOLD` evaluations.
    """

    rule: str
    severity: str
    value: float
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    at_once: bool = False


@dataclass(frozen=True)
class Transition:
    """An alert's new state; ``finding`` is the newest one seen."""

    rule: str
    state: str
    step: int
    finding: Finding


@dataclass
class _Entry:
    state: str
    finding: Finding
    peak: int
    count: int = 0


class AlertMachine:
    """The alerts of one series (one layer of one run, one fingerprint)."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def evaluate(self, step: int, findings: Iterable[Finding]) -> list[Transition]:
        """Takes the findings of one snapshot.

        Args:
            step: the snapshot's step.
            findings: at most one per rule.

        Returns:
            Transitions to firing, recovering, resolved, and firing again with a higher severity.
        """
        found = {finding.rule: finding for finding in findings}
        changes = [self._seen(rule, step, finding) for rule, finding in found.items()]
        changes += [self._absent(rule, step) for rule in list(self._entries) if rule not in found]
        return [change for change in changes if change is not None]

    @property
    def open_rules(self) -> set[str]:
        """Rules whose alert fires or recovers."""
        return {rule for rule, entry in self._entries.items() if entry.state in ("firing", "recovering")}

    def end(self, step: int) -> list[Transition]:
        """The run is over: whatever fires has ended."""
        open_entries = {r: e for r, e in self._entries.items() if e.state in ("firing", "recovering")}
        self._entries.clear()
        return [Transition(rule, "ended", step, entry.finding) for rule, entry in open_entries.items()]

    def _seen(self, rule: str, step: int, finding: Finding) -> Transition | None:
        entry = self._entries.get(rule)
        if entry is None:
            entry = self._entries[rule] = _Entry("pending", finding, RANK[finding.severity])
        worse = RANK[finding.severity] > entry.peak
        entry.finding, entry.peak = finding, max(entry.peak, RANK[finding.severity])
        if entry.state == "pending":
            entry.count += 1
            if entry.count < HOLD and not finding.at_once:
                return None
        elif entry.state == "firing" and not worse:
            entry.count = 0
            return None
        back = entry.state == "recovering" and not worse
        entry.state, entry.count = "firing", 0
        return None if back else Transition(rule, "firing", step, finding)

    def _absent(self, rule: str, step: int) -> Transition | None:
        entry = self._entries[rule]
        if entry.state == "pending":
            del self._entries[rule]
            return None
        entry.state, entry.count = "recovering", entry.count + 1
        if entry.count < CLEAR:
            return None
        del self._entries[rule]
        return Transition(rule, "resolved", step, entry.finding)
