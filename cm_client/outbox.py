"""What waits to be sent and what waits for its ack. Pure: no thread, lock, socket or clock.

Everything handed over is kept until acked, or dropped, counted and told. A *shelf* (`cm_client.spool.Spool`), where
there is one, keeps it beyond the process: a capture on the shelf leaves the memory, and scalars that are too many for
the memory are read back from there. The order in which things give way:

- in memory (no shelf, or it takes nothing): the middle of the series is thinned, whole captures only, never the run's
  first and never the newest; the oldest scalars where they alone are too many;
- on the shelf: the oldest whole captures but the run's first, which everything is measured from; scalars last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from cm_client.items import CaptureItem, ProbeImages, StreamSample
from cm_client.rows import RowLane, row_bytes

__all__ = ["CaptureItem", "Outbox", "Parcel", "ProbeImages", "Shelf", "StreamSample", "row_bytes"]

MAX_BYTES = 256 * 2**20
"""Of captures in memory."""
MAX_DROPPED = 10_000
"""Drops told one by one; more are only counted."""
BATCH_DROPS = 64
OVERHEAD = 4096
"""Bytes that a capture takes on the shelf beside its arrays, about."""
NO_ROOM = "the client's buffer was full"
SHELF_FULL = "the client's spool was full"
DAMAGED = "it could not be read back from the client's spool"


class Shelf(Protocol):
    """Where un-acked things outlive the process. A method that cannot do its work says so and raises nothing."""

    def room(self, nbytes: int, rows: bool = False) -> bool:
        """Whether the size cap leaves room for so much more; a part of it is for scalar rows alone."""
        ...

    def keep_capture(self, number: int, step: int, messages: Iterable[Any]) -> bool:
        """Keep a capture, whole or not at all."""
        ...

    def capture(self, number: int) -> Iterator[Any] | None:
        """Its messages, None where they are damaged or gone."""
        ...

    def forget_capture(self, number: int) -> None:
        """It is acked or dropped."""
        ...

    def keep_rows(self, rows: list[list[Any]]) -> bool:
        """Keep scalar rows ``[number, step, time, values]``."""
        ...

    def rows(self, after: int) -> list[list[Any]]:
        """Some of the rows with a number above ``after``, oldest first; empty where there are none."""
        ...

    def forget_rows(self, number: int) -> None:
        """Every row up to this number is acked."""
        ...

    def keep_dropped(self, number: int, step: int, reason: str) -> bool:
        """Keep that a capture was dropped."""
        ...

    def forget_dropped(self) -> None:
        """The server knows of every drop."""
        ...


@dataclass(frozen=True, eq=False)
class Parcel:
    """A capture to be sent."""

    number: int
    messages: Iterator[Any]


@dataclass(eq=False)
class _Kept:
    """A capture not yet acked; ``item`` is None where the shelf has it."""

    number: int
    step: int
    nbytes: int
    item: CaptureItem | None
    sent: bool = False
    whole: bool = False


class Outbox:
    """Events in (methods), what to send out (``next_…``).

    Args:
        max_bytes: of all captures in memory.
        max_row_bytes: of all scalar rows in memory.
        shelf: keeps things beyond the process, None for memory only.
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, max_row_bytes: int | None = None, shelf: Shelf | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._captures: dict[int, _Kept] = {}
        self._unsent: deque[int] = deque()
        self._first: int | None = None
        self._dropped: dict[int, list[Any]] = {}
        self._untold: deque[int] = deque()
        self._shelf = shelf
        self.rows = RowLane(max_row_bytes, shelf, self._make_room)
        self.nbytes = 0
        self.in_flight = 0
        self.credit = 0
        self.captures_acked = 0
        self.captures_dropped = 0

    @property
    def empty(self) -> bool:
        """Whether everything put in is acked, or dropped and told."""
        return not (self._captures or self._dropped) and self.rows.empty

    @property
    def unacked_captures(self) -> int:
        """Captures that wait for their ack."""
        return len(self._captures)

    @property
    def scalars_dropped(self) -> int:
        """Scalar rows lost for want of room."""
        return self.rows.dropped

    def attach(self, shelf: Shelf) -> None:
        """Use this shelf from now on; nothing was put in before."""
        self._shelf = self.rows.shelf = shelf

    def restore(
        self, captures: Iterable[tuple[int, int, int]], rows: tuple[int, int], dropped: Iterable[list[Any]]
    ) -> None:
        """Take up what a dead process left on the shelf.

        Args:
            captures: number, step and bytes of each.
            rows: numbers of the first and the last scalar row; (0, -1) where there is none.
            dropped: ``[number, step, reason]``.
        """
        for number, step, nbytes in sorted(captures):
            self._captures[number] = _Kept(number, step, nbytes, None)
        for number, step, reason in dropped:
            self._dropped[number] = [step, reason]
        self.rows.restore(*rows)

    def opened(self, credit: int) -> None:
        """A session begins: all that is not acked is to be sent (again)."""
        self.credit = credit
        self.in_flight = 0
        for kept in self._captures.values():
            kept.sent = kept.whole = False
        self._unsent = deque(sorted(self._captures))
        self._untold = deque(self._dropped)
        self.rows.again()

    def add_capture(self, item: CaptureItem) -> None:
        """Put a capture on the shelf, or in memory, where the series is thinned until it fits."""
        if self._first is None:
            self._first = item.number
        shelved = (
            self._shelf is not None
            and self._make_room(item.nbytes + OVERHEAD, rows=False)
            and self._shelf.keep_capture(item.number, item.step, item.messages())
        )
        self._captures[item.number] = _Kept(item.number, item.step, item.nbytes, None if shelved else item)
        self._unsent.append(item.number)
        if not shelved:
            self.nbytes += item.nbytes
        while self.nbytes > self._max_bytes and (victim := self._thinnest()) is not None:
            self.drop(victim, NO_ROOM)

    def drop(self, number: int, reason: str) -> None:
        """Give a capture up; the server is told."""
        kept = self._remove(number)
        if kept is not None:
            self.lost(number, kept.step, reason)

    def lost(self, number: int, step: int, reason: str) -> None:
        """A capture that never came here is lost; the server is told."""
        self.captures_dropped += 1
        self._dropped[number] = [step, reason]
        self._untold.append(number)
        if self._shelf is not None:
            # Told before it is gone: after a crash in between the drop counts, and never both.
            self._shelf.keep_dropped(number, step, reason)
            self._shelf.forget_capture(number)
        if len(self._dropped) > MAX_DROPPED:
            del self._dropped[next(iter(self._dropped))]

    def capture_acked(self, number: int) -> None:
        """The server has this capture or its gap, or will never take it."""
        kept = self._remove(number)
        if kept is not None:
            self.captures_acked += 1
            if self._shelf is not None:
                self._shelf.forget_capture(number)
        elif self._dropped.pop(number, None) is not None and not self._dropped and self._shelf is not None:
            self._shelf.forget_dropped()

    def capture_sent(self, number: int) -> None:
        """The last message of this capture is on its way."""
        if number in self._captures:
            self._captures[number].whole = True

    def whole(self, most: int) -> list[int]:
        """Captures sent to their last message and not acked, oldest first."""
        return [kept.number for kept in self._captures.values() if kept.whole][:most]

    def next_capture(self) -> Parcel | None:
        """The oldest unsent capture, marked as sent; None while the credit is used up (one may always be under way)."""
        while self._unsent:
            kept = self._captures.get(self._unsent[0])
            if kept is not None and self.in_flight and self.in_flight + kept.nbytes > self.credit:
                return None
            number = self._unsent.popleft()
            if kept is None:
                continue
            messages = self.messages(number)
            if messages is None:
                self.drop(number, DAMAGED)
                continue
            kept.sent = True
            self.in_flight += kept.nbytes
            return Parcel(number, messages)
        return None

    def messages(self, number: int) -> Iterator[Any] | None:
        """A capture's messages once more; None where it is acked, dropped or damaged."""
        kept = self._captures.get(number)
        if kept is None:
            return None
        return kept.item.messages() if kept.item is not None else self._taken_down(number)

    def next_dropped(self) -> tuple[list[list[Any]], list[int]]:
        """Drops not yet told, up to 64: rows ``[step, reason]`` and the captures' numbers."""
        numbers: list[int] = []
        while self._untold and len(numbers) < BATCH_DROPS:
            number = self._untold.popleft()
            if number in self._dropped:
                numbers.append(number)
        return [self._dropped[number] for number in numbers], numbers

    def tell_again(self) -> None:
        """No answer came: all drops are to be told once more."""
        self._untold = deque(self._dropped)

    def _taken_down(self, number: int) -> Iterator[Any] | None:
        return self._shelf.capture(number) if self._shelf is not None else None

    def _remove(self, number: int) -> _Kept | None:
        kept = self._captures.pop(number, None)
        if kept is not None:
            self.nbytes -= kept.nbytes if kept.item is not None else 0
            self.in_flight -= kept.nbytes if kept.sent else 0
        return kept

    def _make_room(self, nbytes: int, rows: bool) -> bool:
        """Drop the oldest captures on the shelf until so much more fits."""
        while self._shelf is not None and not self._shelf.room(nbytes, rows):
            victim = next((k for k in self._captures.values() if self._may_go(k) and k.item is None), None)
            if victim is None:
                return False
            self.drop(victim.number, SHELF_FULL)
        return True

    def _thinnest(self) -> int | None:
        # Never the run's first, never the newest, never one under way; the one whose neighbours lie closest together.
        kept = [k for k in self._captures.values() if k.item is not None]
        inner = [i for i in range(len(kept) - 1) if self._may_go(kept[i])]
        if not inner:
            return None
        return kept[min(inner, key=lambda i: kept[i + 1].step - kept[max(i - 1, 0)].step)].number

    def _may_go(self, kept: _Kept) -> bool:
        return kept.number != self._first and not kept.sent
