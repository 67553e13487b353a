"""The lane of the scalars: rows numbered from 0, kept until acked. Pure, like the outbox it belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cm_client.outbox import Shelf

MAX_ROW_BYTES = 32 * 2**20
BATCH_ROWS = 64
BATCH_BYTES = 12 * 1024


class RowLane:
    """Rows ``[number, step, time, values]``.

    With a shelf every row goes there too, and those that are too many for the memory are only there: the memory holds
    the oldest ones, and the next are read back when these are sent and acked.

    Args:
        max_bytes: of the rows in memory, by `row_cost`.
        shelf: keeps rows beyond the process.
        make_room: frees so many bytes of the shelf, if it can.
    """

    def __init__(self, max_bytes: int | None, shelf: Shelf | None, make_room: Callable[[int, bool], bool]) -> None:
        self.shelf = shelf
        self.dropped = self.done = 0
        self._max_bytes = MAX_ROW_BYTES if max_bytes is None else max_bytes
        self._make_room = make_room
        self._rows: deque[list[Any]] = deque()
        self._cost = 0
        self._sent = 0
        self._next = 0
        self._tail = -1
        self._unwritten: list[list[Any]] = []

    @property
    def empty(self) -> bool:
        """Whether every row is acked or dropped."""
        return not self._rows and not self._spilled

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in memory, by `row_cost`."""
        return self._cost

    @property
    def unacked(self) -> int:
        """Rows that wait for their ack, and are on the shelf where there is one."""
        return len(self._rows) + self._next - 1 - self._tail - len(self._unwritten)

    @property
    def waiting(self) -> bool:
        """Whether there are rows not yet sent."""
        return len(self._rows) > self._sent or self._spilled

    @property
    def under_way(self) -> bool:
        """Whether rows are sent and not acked."""
        return self._sent > 0

    @property
    def _spilled(self) -> bool:
        return self._tail < self._next - 1

    def restore(self, first: int, last: int) -> None:
        """The shelf holds rows with numbers from ``first`` to ``last``."""
        self._tail, self._next = first - 1, last + 1

    def again(self) -> None:
        """All that is not acked is to be sent (again)."""
        self._sent = 0

    def add(self, step: int, time: float, values: dict[str, float | None]) -> None:
        """Append a row; where the memory is full it is left to the shelf, or the oldest goes where there is none."""
        row = [self._next, step, time, values]
        if self.shelf is not None:
            self._unwritten.append(row)
        full = self._cost + row_cost(values) > self._max_bytes and bool(self._rows)
        if not (self.shelf is not None and (self._spilled or full)):
            self._append(row)
        self._next += 1
        while self._cost > self._max_bytes and len(self._rows) > 1:
            self._pop()
            self.dropped += 1

    def flush(self) -> None:
        """Put new rows on the shelf."""
        rows = self._unwritten
        if not rows or self.shelf is None:
            return
        if not (self._make_room(sum(row_bytes(row[3]) for row in rows), True) and self.shelf.keep_rows(rows)):
            # Those in memory are only less safe; those that went by it are gone.
            self.dropped += sum(row[0] > self._tail for row in rows)
        self._unwritten = []

    def acked(self, number: int) -> None:
        """The server has every row up to ``number``."""
        while self._rows and self._rows[0][0] <= number:
            self._pop()
            self.done += 1
        if self.shelf is not None:
            self.shelf.forget_rows(number)

    def next_rows(self) -> list[list[Any]]:
        """Up to 64 unsent rows that fit one header, oldest first, marked as sent."""
        if self._sent == len(self._rows) and self._spilled:
            self._refill()
        ahead = (self._rows[index] for index in range(self._sent, min(len(self._rows), self._sent + BATCH_ROWS)))
        rows = next(packed(ahead), [])
        self._sent += len(rows)
        return rows

    def _refill(self) -> None:
        self.flush()
        while self.shelf is not None and self._spilled and self._cost < self._max_bytes // 2:
            rows = self.shelf.rows(self._tail)
            for row in rows:
                self._append(row)
            if not rows:
                # Damaged or never written, which was counted when it happened.
                self._tail = self._next - 1

    def _append(self, row: list[Any]) -> None:
        self._rows.append(row)
        self._tail = row[0]
        self._cost += row_cost(row[3])

    def _pop(self) -> None:
        self._cost -= row_cost(self._rows.popleft()[3])
        self._sent = max(0, self._sent - 1)


def packed(rows: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    """Rows in groups that fit one header each, at most 64."""
    group: list[list[Any]] = []
    room = BATCH_BYTES
    for row in rows:
        room -= row_bytes(row[3])
        if group and (room < 0 or len(group) == BATCH_ROWS):
            yield group
            group, room = [], BATCH_BYTES - row_bytes(row[3])
        group.append(row)
    if group:
        yield group


def row_bytes(values: dict[str, float | None]) -> int:
    """An upper bound of what a row takes in a header."""
    return 40 + sum(4 * len(name) + 16 for name in values)


def row_cost(values: dict[str, float | None]) -> int:
    """About what a row takes in memory: list, map, numbers and names."""
    return 400 + sum(len(name) + 150 for name in values)
