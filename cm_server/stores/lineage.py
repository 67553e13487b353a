"""Which part of a run's record holds where several processes wrote it. Pure.

A run resumed from a checkpoint has several *epochs*, one per training process. Where their steps overlap, the newer
epoch wins: from its first step on it supersedes every earlier one, also at steps that it has not reached itself yet,
for the weights that the earlier one had there exist no more. So each step is shown once, and no curve turns back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One training process of a run.

    Attributes:
        epoch: its id.
        begun: seconds since 1970; later epochs are newer.
        first_step: the first step it told of, None while it told of none.
        last_step: the last.
        ended: how it ended, empty while it has not.
    """

    epoch: str
    begun: float
    first_step: int | None = None
    last_step: int | None = None
    ended: str = ""


def cuts(epochs: Iterable[Epoch]) -> dict[str, int]:
    """For each epoch that a newer one supersedes: the step from which on it no longer holds.

    >>> cuts([Epoch("a", 1.0, 0, 100), Epoch("b", 2.0, 60, 80), Epoch("c", 3.0)])
    {'a': 60}
    """
    found: dict[str, int] = {}
    lowest: int | None = None
    for epoch in sorted(epochs, key=lambda e: (e.begun, e.epoch), reverse=True):
        if lowest is not None:
            found[epoch.epoch] = lowest
        if epoch.first_step is not None:
            lowest = epoch.first_step if lowest is None else min(lowest, epoch.first_step)
    return found


def holds(cut: Mapping[str, int], epoch: str, step: int) -> bool:
    """Whether what ``epoch`` said about ``step`` is part of the run's record."""
    until = cut.get(epoch)
    return until is None or step < until
