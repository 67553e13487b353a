"""One layer's series under watch: snapshots in, transitions of its alerts out. No clock, no store, no network.

What is here is the same for the live server, a restarted one that replays the store, and a backtest. A layer's values
form one series only while their fingerprint stays the same: other words, probe images or fewer units begin a new one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from cm_server.core.alerting import AlertMachine, Finding, Patience, Transition
from cm_server.core.trend import Track
from cm_server.report import LayerSummary

logger = logging.getLogger(__name__)

Expect = Literal["fall", "any", "rise"]


@dataclass(frozen=True)
class Circumstances:
    """What is known about a run and set for a layer, besides the values.

    Attributes:
        expect: ``fall`` for training from scratch; ``any`` or ``rise`` for fine-tuning, where d_anchor may rise.
        planned_steps: the run's length, None if unknown.
        warm_up: snapshots before the trend is judged where the length is unknown.
        warm_up_planned: the same where it is known, …
        warm_up_share: … but not before this share of the planned steps.
        undesirable, wanted: words that units should stay away from, and should not leave.
        categories: those that the concept set has at all; None if nobody knows.
        reference: a healthy run's ``(step, d_anchor)``, by rising step, by fingerprint.
    """

    expect: Expect = "fall"
    planned_steps: int | None = None
    warm_up: int = 25
    warm_up_planned: int = 20
    warm_up_share: float = 0.15
    undesirable: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    categories: frozenset[str] | None = None
    reference: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What a rule sees at a snapshot.

    Attributes:
        first, last: the series' first and newest summary.
        first_step, step: theirs.
        count: snapshots in the series.
        d_anchor: its values so far, of the snapshots where it is defined.
        interpretable: minus the number of interpretable units, so that here too falling is good.
        words: by watched word, how far the nearest group of units is from it.
        about: the run and the settings.
        open: by rule, the newest finding of what fires: rules ask less to stay than to begin.
        found: rules that found something at this snapshot already.
    """

    first: LayerSummary
    last: LayerSummary
    first_step: int
    step: int
    count: int
    d_anchor: Track
    interpretable: Track
    words: Mapping[str, Track]
    about: Circumstances
    open: Mapping[str, Finding]
    found: frozenset[str] = frozenset()

    @property
    def warm(self) -> bool:
        """Whether there is enough to judge a trend by."""
        about = self.about
        if about.planned_steps is None:
            return self.d_anchor.count >= about.warm_up
        enough = self.d_anchor.count >= about.warm_up_planned
        return enough and self.step >= about.warm_up_share * about.planned_steps

    @property
    def scale(self) -> float:
        """``chance - ideal``, all there is to gain; NaN where it is not known."""
        scale = self.last.chance - self.last.ideal
        return scale if scale > 0 else math.nan

    @property
    def defined(self) -> bool:
        """Whether the newest snapshot has a d_anchor."""
        return math.isfinite(self.last.d_anchor)


class Rule(Protocol):
    """Reads a view and says what it finds. A frozen dataclass whose fields are its settings.

    Attributes:
        name: of the alert it raises.
        hold, clear: evaluations in a row that it must find something to fire, and nothing to resolve.
    """

    @property
    def name(self) -> str: ...

    @property
    def hold(self) -> int: ...

    @property
    def clear(self) -> int: ...

    def find(self, view: View) -> Finding | bool:
        """The finding; False if all is well; True if this snapshot tells nothing either way."""
        ...


class LayerWatch:
    """The series and alerts of one layer of one run.

    Args:
        rules: asked in this order; later ones see what earlier ones found.
        about: the run and the settings.
    """

    def __init__(self, rules: Sequence[Rule], about: Circumstances) -> None:
        self._rules, self._about = rules, about
        self._failed: set[str] = set()
        self.machine = AlertMachine({rule.name: Patience(rule.hold, rule.clear) for rule in rules})
        self._begin()

    def _begin(self) -> None:
        self._first: LayerSummary | None = None
        self._first_step = 0
        self._count = 0
        self._d_anchor, self._interpretable = Track(), Track()
        self._words: dict[str, Track] = {}

    def take(self, step: int, summary: LayerSummary) -> list[Transition]:
        """Takes the next snapshot; another fingerprint ends the series and its alerts, and begins a new one.

        Args:
            step: its step; smaller than the last one's where a run was resumed from a checkpoint.
            summary: its numbers.
        """
        changes: list[Transition] = []
        if self._first is not None and self._first.fingerprint != summary.fingerprint:
            changes = self.machine.end(step)
            self._begin()
        view = self._view(step, summary)
        findings: list[Finding] = []
        silent: set[str] = set()
        for rule in self._rules:
            found = self._ask(rule, view)
            if isinstance(found, Finding):
                findings.append(found)
                view = replace(view, found=view.found | {found.rule})
            elif found:
                silent.add(rule.name)
        return changes + self.machine.evaluate(step, findings, silent)

    def _ask(self, rule: Rule, view: View) -> Finding | bool:
        """A rule of another package that fails says nothing, and takes no other rule with it."""
        try:
            return rule.find(view)
        except Exception:
            if rule.name not in self._failed:
                logger.exception("rule %s failed at step %d of %s", rule.name, view.step, view.last.layer)
                self._failed.add(rule.name)
            return True

    @property
    def tracks(self) -> list[Track]:
        """Every series that is followed: d_anchor, interpretable units, then the watched words."""
        return [self._d_anchor, self._interpretable, *self._words.values()]

    def end(self, step: int) -> list[Transition]:
        """The run is over: what fires has ended."""
        return self.machine.end(step)

    def _view(self, step: int, summary: LayerSummary) -> View:
        if self._first is None:
            self._first, self._first_step = summary, step
        self._count += 1
        if math.isfinite(summary.d_anchor):
            self._d_anchor.add(summary.d_anchor, step)
            self._interpretable.add(-float(summary.interpretable), step)
        for word, distance in summary.words.items():
            if math.isfinite(distance):
                self._words.setdefault(word, Track()).add(distance, step)
        return View(
            first=self._first,
            last=summary,
            first_step=self._first_step,
            step=step,
            count=self._count,
            d_anchor=self._d_anchor,
            interpretable=self._interpretable,
            words=self._words,
            about=self._about,
            open=self.machine.open,
        )
