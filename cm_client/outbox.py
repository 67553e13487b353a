"""What waits to be sent and what waits for its ack. Pure: no thread, lock, socket or clock.

Two lanes. Scalars are kept until acked, bounded by rows, the oldest dropped first. Captures are kept until acked,
bounded in bytes: where a new one does not fit, the middle of the series is thinned, whole captures only, never the
first and never the newest. Every drop is counted, and those of captures are told to the server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_BYTES = 256 * 2**20
MAX_ROWS = 1_000_000
BATCH_ROWS = 64
BATCH_BYTES = 12 * 1024
NO_ROOM = "the client's buffer was full"


@dataclass(frozen=True, eq=False)
class StreamSample:
    """The training images a stream capture was taken on.

    Attributes:
        keys: uint8 ``[N, 32]``, a sha256 for each image: of its content, or of the user's id for it.
        images: uint8 ``[N, H, W, 3]``.
        first_step: step of the first of them.
    """

    keys: np.ndarray
    images: np.ndarray
    first_step: int

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the keys, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.keys).data).hexdigest()


@dataclass(frozen=True, eq=False)
class CaptureItem:
    """A capture on its way: ``layers`` by module path, float32 ``[N, units]`` each, in the network's order.

    ``sample`` is None where it was taken on the probe set.
    """

    number: int
    step: int
    time: float
    fingerprint: str
    layers: dict[str, np.ndarray]
    sample: StreamSample | None = None
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        arrays = [*self.layers.values(), *([self.sample.keys, self.sample.images] if self.sample else [])]
        object.__setattr__(self, "nbytes", sum(array.nbytes for array in arrays))


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """The probe set as the server sees it: uint8 ``[N, H, W, 3]``, its fingerprint and where it comes from."""

    images: np.ndarray
    fingerprint: str
    source: str


class Outbox:
    """Events in (methods), what to send out (``next_…``).

    Args:
        max_bytes: of all captures kept.
        max_rows: scalar rows kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_rows: int = MAX_ROWS) -> None:
        self._max_bytes, self._max_rows = max_bytes, max_rows
        self._captures: list[CaptureItem] = []
        self._sent: set[int] = set()
        self._first: int | None = None
        self._rows: deque[list[Any]] = deque()
        self._rows_sent = 0
        self._next_row = 0
        self._dropped: list[list[Any]] = []
        self.credit = 0
        self.captures_acked = 0
        self.captures_dropped = 0
        self.scalars_dropped = 0

    @property
    def empty(self) -> bool:
        """Whether everything put in is acked, or dropped and told."""
        return not (self._captures or self._rows or self._dropped)

    @property
    def nbytes(self) -> int:
        """Bytes of captures kept."""
        return sum(item.nbytes for item in self._captures)

    @property
    def in_flight(self) -> int:
        """Bytes of captures sent and not acked."""
        return sum(item.nbytes for item in self._captures if item.number in self._sent)

    @property
    def waiting_rows(self) -> int:
        """Scalar rows not yet sent."""
        return len(self._rows) - self._rows_sent

    def opened(self, credit: int) -> None:
        """A session begins: all that is not acked is to be sent (again)."""
        self.credit = credit
        self._sent.clear()
        self._rows_sent = 0

    def add_scalars(self, step: int, time: float, values: dict[str, float | None]) -> None:
        """Append a row; the oldest goes where there are too many."""
        self._rows.append([self._next_row, step, time, values])
        self._next_row += 1
        if len(self._rows) > self._max_rows:
            self._rows.popleft()
            self._rows_sent = max(0, self._rows_sent - 1)
            self.scalars_dropped += 1

    def add_capture(self, item: CaptureItem) -> None:
        """Append a capture, and thin the series until it fits."""
        if self._first is None:
            self._first = item.number
        self._captures.append(item)
        while self.nbytes > self._max_bytes and (victim := self._victim()) is not None:
            self._captures.remove(victim)
            self._dropped.append([victim.step, NO_ROOM])
            self.captures_dropped += 1

    def capture_acked(self, number: int) -> None:
        """The server has this capture, or will never take it."""
        before = len(self._captures)
        self._captures = [item for item in self._captures if item.number != number]
        self._sent.discard(number)
        self.captures_acked += before - len(self._captures)

    def scalars_acked(self, number: int) -> None:
        """The server has every row up to ``number``."""
        while self._rows and self._rows[0][0] <= number:
            self._rows.popleft()
            self._rows_sent = max(0, self._rows_sent - 1)

    def next_capture(self) -> CaptureItem | None:
        """The oldest unsent capture, marked as sent; None while the credit is used up (one may always be under way)."""
        item = next((item for item in self._captures if item.number not in self._sent), None)
        in_flight = self.in_flight
        if item is None or (in_flight and in_flight + item.nbytes > self.credit):
            return None
        self._sent.add(item.number)
        return item

    def find(self, number: int) -> CaptureItem | None:
        """The capture of that number, None where it is acked or dropped."""
        return next((item for item in self._captures if item.number == number), None)

    def next_rows(self) -> list[list[Any]]:
        """Up to 64 unsent rows that fit one header, oldest first, marked as sent."""
        rows: list[list[Any]] = []
        room = BATCH_BYTES
        for index in range(self._rows_sent, min(len(self._rows), self._rows_sent + BATCH_ROWS)):
            room -= row_bytes(self._rows[index][3])
            if rows and room < 0:
                break
            rows.append(self._rows[index])
        self._rows_sent += len(rows)
        return rows

    def next_dropped(self) -> list[list[Any]]:
        """Drops not yet told, ``[step, reason]``, up to 64."""
        rows, self._dropped = self._dropped[:BATCH_ROWS], self._dropped[BATCH_ROWS:]
        return rows

    def _victim(self) -> CaptureItem | None:
        # Never the run's first, never the newest, never one under way; the one whose neighbours lie closest together.
        kept = self._captures
        inner = [i for i in range(len(kept) - 1) if kept[i].number != self._first and kept[i].number not in self._sent]
        if not inner:
            return None
        return kept[min(inner, key=lambda i: kept[i + 1].step - kept[max(i - 1, 0)].step)]


def row_bytes(values: dict[str, float | None]) -> int:
    """An upper bound of what a row takes in a header."""
    return 40 + sum(4 * len(name) + 16 for name in values)
