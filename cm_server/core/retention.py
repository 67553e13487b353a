"""Which snapshots keep their arrays. Pure: numbers in, positions out.

A run's summaries (d_anchor and the other curves) are small and stay; its arrays per unit are thousands of times larger
and may be given up. Rules are joined: a snapshot stays if any of them asks for it. Each rule looks at a snapshot's
number in its run and at how many came after it, so what it once gave up it never asks for again, however often and
whenever it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RULES = ("last", "every", "thin")


class RetentionError(ValueError):
    """The rules cannot be read; the message names value and cure."""


@dataclass(frozen=True)
class Retention:
    """What to keep of a run; all of it where no rule is given.

    Attributes:
        last: the newest so many.
        every: every so manyth, counted from the run's first.
        thin: the newest so many, and of all that are 1 to 2, 2 to 4, 4 to 8 … times as old, half as many each: about
            ``thin · (1 + log2(n / thin) / 2)`` of n.
        limit: bytes of arrays; where more would stay, the rest is thinned with age until it fits. 0: no limit.
    """

    last: int = 0
    every: int = 0
    thin: int = 0
    limit: int = 0

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever given up."""
        return not (self.last or self.every or self.thin or self.limit)

    def __str__(self) -> str:
        rules = [f"{name}:{value}" for name in RULES if (value := getattr(self, name))]
        return ",".join(rules) or "all"


@dataclass(frozen=True)
class Kept:
    """One snapshot: ``size`` in bytes (0 where its arrays were given up before), ``pinned`` where something points to
    it, an alert for example."""

    size: int
    pinned: bool = False


def parse(text: str, limit: int = 0) -> Retention:
    """Reads ``all``, or rules such as ``last:100,every:50``.

    Args:
        text: the rules.
        limit: bytes per run, 0 for no limit.

    Raises:
        RetentionError: it cannot be read.

    >>> str(parse("last:100, every:50"))
    'last:100,every:50'
    >>> parse("all").keeps_all
    True
    """
    found: dict[str, int] = {}
    for part in text.split(",") if text.strip() not in ("", "all") else []:
        name, colon, number = part.strip().partition(":")
        right = name in RULES and colon and number.isascii() and number.isdigit() and 0 < int(number) < 10**9
        if not right or name in found:
            raise RetentionError(
                f"retention {text[:60]!r}: give all, or one or more of last:N, every:N and thin:N with commas between"
            )
        found[name] = int(number)
    return Retention(**found, limit=limit)


def given_up(snapshots: Sequence[Kept], retention: Retention) -> list[int]:
    """Which snapshots lose their arrays now.

    The first and the newest always stay, and what is pinned as long as the limit allows.

    Args:
        snapshots: all of a run's, oldest first, also those that lost theirs before.
        retention: the rules.

    Returns:
        Positions in ``snapshots``, ascending.

    >>> given_up([Kept(1)] * 6, Retention(last=2))
    [1, 2, 3]
    >>> given_up([Kept(1)] * 6, Retention(every=2))
    [1, 3]
    """
    count = len(snapshots)
    ruled = bool(retention.last or retention.every or retention.thin)
    stay = {at for at in range(count) if _stays(at, count, snapshots[at], retention)} if ruled else set(range(count))
    if retention.limit:
        stay = _fitting(snapshots, stay, retention.limit)
    return [at for at, snapshot in enumerate(snapshots) if snapshot.size and at not in stay]


def _stays(at: int, count: int, snapshot: Kept, retention: Retention) -> bool:
    age = count - 1 - at
    return (
        at == 0
        or age == 0
        or snapshot.pinned
        or age < retention.last
        or bool(retention.every and at % retention.every == 0)
        or bool(retention.thin and _thinned(at, age, retention.thin))
    )


def _thinned(at: int, age: int, thin: int) -> bool:
    """Whether thinning with age keeps a snapshot: all of the newest, then numbers divisible by 2, 4, 8 …"""
    return at % (1 << (age // thin).bit_length()) == 0


def _fitting(snapshots: Sequence[Kept], stay: set[int], limit: int) -> set[int]:
    """The part of ``stay`` that fits into ``limit`` bytes, thinned with age; if need be, what is pinned goes too."""
    count = len(snapshots)

    def bytes_of(which: set[int]) -> int:
        return sum(snapshots[at].size for at in which)

    def thinned(thin: int, pins: bool) -> set[int]:
        ends = {0, count - 1}
        return {
            at
            for at in stay
            if at in ends or (pins and snapshots[at].pinned) or (thin and _thinned(at, count - 1 - at, thin))
        }

    if bytes_of(stay) <= limit:
        return stay
    for pins in (True, False):
        low, high = 0, count  # the least thinning that fits: the larger `thin`, the more stays
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if bytes_of(thinned(middle, pins)) <= limit else (low, middle - 1)
        if bytes_of(thinned(low, pins)) <= limit:
            return thinned(low, pins)
    newest = {count - 1}
    return newest | {0} if bytes_of(newest | {0}) <= limit else newest
