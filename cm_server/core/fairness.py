"""Turns between many senders: each gets as much as the others, however much it sends. Pure.

Deficit round robin (Shreedhar and Varghese, *Efficient fair queueing using deficit round robin*, 1995): a sender's turn
adds a quantum to what it may spend, and it is served while that suffices. Order within one sender is kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Line(Generic[T]):
    items: deque[tuple[T, int]] = field(default_factory=deque)
    cost: int = 0
    deficit: int = 0


class FairQueue(Generic[T]):
    """What waits, by sender.

    Args:
        quantum: cost that one turn is worth.
        most: cost of one sender's that may wait; beyond it `put` hands its oldest back, to be seen to at once: nothing
            is ever lost here, and nothing grows. One item always fits.

    Example:
        >>> queue = FairQueue(quantum=1, most=10)
        >>> for sender, item in (("a", 1), ("a", 2), ("a", 3), ("b", 4)):
        ...     assert queue.put(sender, item, 1) == []
        >>> [queue.take() for _ in range(5)]
        [1, 4, 2, 3, None]
    """

    def __init__(self, quantum: int, most: int) -> None:
        self._quantum, self._most = quantum, most
        self._lines: OrderedDict[Hashable, _Line[T]] = OrderedDict()
        self._count = 0
        self._begun = False

    def __len__(self) -> int:
        return self._count

    def put(self, sender: Hashable, item: T, cost: int) -> list[T]:
        """Appends an item; returns the sender's oldest ones where more would wait than may."""
        line = self._lines.setdefault(sender, _Line())
        oldest = []
        while line.items and line.cost + cost > self._most:
            oldest.append(self._pop(line))
        line.items.append((item, cost))
        line.cost += cost
        self._count += 1
        return oldest

    def take(self) -> T | None:
        """The next item; None where nothing waits."""
        while self._lines:
            sender, line = next(iter(self._lines.items()))
            if not self._begun:
                line.deficit += self._quantum
                self._begun = True
            if line.items[0][1] <= line.deficit:
                line.deficit -= line.items[0][1]
                item = self._pop(line)
                if not line.items:
                    del self._lines[sender]
                    self._begun = False
                return item
            self._lines.move_to_end(sender)
            self._begun = False
        return None

    def drain(self, most: int) -> Iterator[T]:
        """Up to ``most`` items."""
        for _ in range(most):
            if (item := self.take()) is None:
                return
            yield item

    def _pop(self, line: _Line[T]) -> T:
        item, cost = line.items.popleft()
        line.cost -= cost
        self._count -= 1
        return item
