"""From findings to alerts: a state machine, events in, transitions out. No clock, no store, no network.

``ok -> pending -> firing -> recovering -> resolved``, and ``ended`` when the run is over: a finding must hold on as
many evaluations in a row as its rule asks for to fire, and be absent on as many others to resolve. A snapshot that
says nothing about a rule (no value arrived) leaves that rule's state as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

HOLD = 3
"""Evaluations in a row that a finding must hold for, unless its rule says otherwise."""
CLEAR = 5
"""Evaluations in a row that it must be absent for."""
GROWING = 5
"""Evaluations that a warning which is about to become an error waits for that: it is told once then, as what it is."""
Severity = Literal["info", "warning", "error"]
State = Literal["pending", "firing", "recovering", "resolved", "ended"]
RANK: Mapping[str, int] = {"info": 0, "warning": 1, "error": 2}
OPEN_STATES = ("firing", "recovering")
TOLD_STATES = ("firing", "resolved", "ended")
"""States that people hear of; the others are how the machine makes up its mind."""


@dataclass(frozen=True)
class Finding:
    """What a rule sees at one evaluation.

    Attributes:
        rule: its name.
        severity: ``info``, ``warning`` or ``error``.
        value: d_anchor, or whatever the rule watches.
        message: the reading in plain words.
        details: the numbers behind it; ``since_step`` is the step to compare this one with.
        at_once: fires without waiting.
        growing: a warning that will be an error within `GROWING` evaluations if it goes on so.
    """

    rule: str
    severity: Severity
    value: float
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    at_once: bool = False
    growing: bool = False


@dataclass(frozen=True)
class Transition:
    """An alert's new state.

    Attributes:
        rule: its rule's name.
        state: the new one.
        step: of the snapshot that brought it.
        finding: the newest one seen.
        again: it fires again after a moment of recovering, which is no news.
    """

    rule: str
    state: State
    step: int
    finding: Finding
    again: bool = False

    @property
    def told(self) -> bool:
        """Whether people hear of it."""
        return self.state in TOLD_STATES and not self.again

    @property
    def loudness(self) -> Severity:
        """Severity of the news: that an alert is over is information, whatever the alert was."""
        return self.finding.severity if self.state == "firing" else "info"


@dataclass(frozen=True)
class Patience:
    """How long a rule waits: evaluations in a row to fire, and to resolve."""

    hold: int = HOLD
    clear: int = CLEAR


@dataclass
class _Entry:
    state: State
    finding: Finding
    peak: int
    count: int = 0


class AlertMachine:
    """The alerts of one series (one layer of one run, one fingerprint).

    Args:
        patience: by rule; `Patience()` for others.
    """

    def __init__(self, patience: Mapping[str, Patience] | None = None) -> None:
        self._patience = dict(patience or {})
        self._entries: dict[str, _Entry] = {}

    @property
    def open(self) -> dict[str, Finding]:
        """By rule, the newest finding of what fires or recovers."""
        return {rule: entry.finding for rule, entry in self._entries.items() if entry.state in OPEN_STATES}

    def evaluate(self, step: int, findings: Iterable[Finding], silent: Collection[str] = ()) -> list[Transition]:
        """Takes the findings of one snapshot.

        Args:
            step: the snapshot's step.
            findings: at most one per rule.
            silent: rules on which this snapshot says nothing.

        Returns:
            Every change of state, and firing again with a higher severity than ever before.
        """
        found = {finding.rule: finding for finding in findings}
        changes = [self._seen(rule, step, finding) for rule, finding in found.items()]
        gone = [rule for rule in self._entries if rule not in found and rule not in silent]
        changes += [self._absent(rule, step) for rule in gone]
        return [change for change in changes if change is not None]

    @property
    def open_rules(self) -> set[str]:
        """Rules whose alert fires or recovers."""
        return {rule for rule, entry in self._entries.items() if entry.state in ("firing", "recovering")}

    def end(self, step: int) -> list[Transition]:
        """The run is over: whatever fires has ended."""
        ended = [Transition(rule, "ended", step, finding) for rule, finding in self.open.items()]
        self._entries.clear()
        return ended

    def restore(self, finding: Finding) -> None:
        """Puts an alert that fires already back in its place, as a restarted server finds it in the store."""
        self._entries[finding.rule] = _Entry("firing", finding, RANK[finding.severity])

    def _seen(self, rule: str, step: int, finding: Finding) -> Transition | None:
        entry = self._entries.get(rule)
        fresh = entry is None
        if entry is None:
            entry = self._entries[rule] = _Entry("pending", finding, RANK[finding.severity])
        worse = RANK[finding.severity] > entry.peak
        entry.finding, entry.peak = finding, max(entry.peak, RANK[finding.severity])
        if entry.state == "pending":
            entry.count += 1
            patience = self._of(rule).hold + (GROWING if finding.growing else 0)
            if entry.count < patience and not finding.at_once:
                return Transition(rule, "pending", step, finding) if fresh else None
        elif entry.state == "firing" and not worse:
            return None
        again = entry.state == "recovering" and not worse
        entry.state, entry.count = "firing", 0
        return Transition(rule, "firing", step, finding, again)

    def _absent(self, rule: str, step: int) -> Transition | None:
        entry = self._entries[rule]
        if entry.state == "pending":
            del self._entries[rule]
            return None
        begins, entry.state, entry.count = entry.state == "firing", "recovering", entry.count + 1
        if entry.count >= self._of(rule).clear:
            del self._entries[rule]
            return Transition(rule, "resolved", step, entry.finding)
        return Transition(rule, "recovering", step, entry.finding) if begins else None

    def _of(self, rule: str) -> Patience:
        return self._patience.get(rule, _DEFAULT)


_DEFAULT = Patience()
