"""How much one may do in a while: token buckets. Pure: the time comes in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Allowance:
    """So many at once, and so many a second after that.

    Args:
        rate: a second.
        burst: at once.

    Example:
        >>> two = Allowance(rate=1.0, burst=2)
        >>> [two.take(now) for now in (0.0, 0.0, 0.0, 1.0, 1.5)]
        [True, True, False, True, False]
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, float(burst)
        self._at: float | None = None

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Takes ``cost`` where there is so much left; ``now`` is in seconds and may jump back, which gives nothing."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._left = min(self._burst, self._left + self._rate * passed)
        if self._left < cost:
            return False
        self._left -= cost
        return True


class Allowances:
    """An allowance for each of many; the one not seen for longest is forgotten first, and begins anew.

    Args:
        rate, burst: as of `Allowance`.
        most: how many are remembered.
    """

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._known: OrderedDict[Hashable, Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, who: Hashable, now: float, cost: float = 1.0) -> bool:
        """Takes from the allowance of ``who``."""
        allowance = self._known.get(who)
        if allowance is None:
            allowance = self._known[who] = Allowance(self._rate, self._burst)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(who)
        return allowance.take(now, cost)
