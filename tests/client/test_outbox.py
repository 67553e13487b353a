"""The outbox: nothing un-acked is forgotten but counted drops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cm_client.outbox import BATCH_BYTES, BATCH_ROWS, NO_ROOM, CaptureItem, Outbox, row_bytes

ROOM, ROWS, CREDIT = 4000, 30, 1500


def item(number: int, step: int, size: int = 100) -> CaptureItem:
    return CaptureItem(number, step, 0.0, "f", {"layer": np.zeros((1, size), np.float32)})


class OutboxLaws(RuleBasedStateMachine):
    """Anything may happen in any order; after each event the laws hold."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(max_bytes=ROOM, max_rows=ROWS)
        self.box.opened(CREDIT)
        self.step = self.numbers = self.rows = 0
        self.unacked: dict[int, int] = {}
        self.sent: list[int] = []
        self.sent_rows: list[int] = []
        self.rows_acked = 0
        self.told = 0

    @rule(size=st.integers(1, 200), gap=st.integers(1, 50))
    def capture(self, size: int, gap: int) -> None:
        self.step += gap
        self.box.add_capture(item(self.numbers, self.step, size))
        self.unacked[self.numbers] = self.step
        self.numbers += 1

    @rule()
    def send(self) -> None:
        found = self.box.next_capture()
        if found is not None:
            assert found.number not in self.sent
            assert found.number > max(self.sent, default=-1)
            self.sent.append(found.number)

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        if self.sent:
            number = data.draw(st.sampled_from(self.sent))
            self.box.capture_acked(number)
            self.unacked.pop(number, None)
            self.sent.remove(number)

    @rule(names=st.integers(1, 20))
    def log(self, names: int) -> None:
        self.box.add_scalars(self.step, 0.0, {f"name {i}": 0.0 for i in range(names)})
        self.rows += 1

    @rule()
    def send_rows(self) -> None:
        rows = self.box.next_rows()
        numbers = [row[0] for row in rows]
        assert numbers == sorted(numbers)
        assert len(rows) <= BATCH_ROWS
        assert len(rows) <= 1 or sum(row_bytes(row[3]) for row in rows) <= BATCH_BYTES
        assert not self.sent_rows or not numbers or numbers[0] > self.sent_rows[-1]
        self.sent_rows += numbers

    @rule()
    def ack_rows(self) -> None:
        if self.sent_rows:
            self.rows_acked = max(self.rows_acked, self.sent_rows[-1] + 1)
            self.box.scalars_acked(self.sent_rows[-1])

    @rule()
    def reconnect(self) -> None:
        self.box.opened(CREDIT)
        self.sent.clear()
        self.sent_rows.clear()

    @rule()
    def tell(self) -> None:
        self.told += len(self.box.next_dropped())

    @invariant()
    def captures_are_kept_or_counted(self) -> None:
        kept = [i.number for i in self.box._captures]
        assert kept == sorted(kept)
        assert set(kept) <= set(self.unacked)
        assert len(self.unacked) - len(kept) == self.box.captures_dropped
        assert self.told <= self.box.captures_dropped
        if self.unacked:
            assert max(self.unacked) in kept
            assert 0 not in self.unacked or 0 in kept
        assert set(self.sent) <= set(kept)

    @invariant()
    def bytes_are_bounded(self) -> None:
        # What may not be dropped (the first, the newest, what is under way) is the only reason to be over.
        spare = [i for i in self.box._captures[:-1] if i.number not in self.box._sent and i.number != 0]
        assert self.box.nbytes <= ROOM or not spare
        assert self.box.in_flight <= CREDIT or len(self.sent) == 1

    @invariant()
    def rows_are_kept_or_counted(self) -> None:
        kept = [row[0] for row in self.box._rows]
        assert kept == list(range(self.rows - len(kept), self.rows))
        assert len(kept) <= ROWS
        assert self.rows - len(kept) <= self.rows_acked + self.box.scalars_dropped


TestOutboxLaws = OutboxLaws.TestCase
TestOutboxLaws.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 20), min_size=5, max_size=30))
@settings(max_examples=50, deadline=None)
def test_thinning_keeps_the_ends_and_spreads_the_rest(gaps: list[int]) -> None:
    box = Outbox(max_bytes=4 * 400)
    steps = list(np.cumsum(gaps))
    for number, step in enumerate(steps):
        box.add_capture(item(number, int(step)))
    kept = [i.step for i in box._captures]
    assert len(kept) == 4
    assert kept[0] == steps[0]
    assert kept[-1] == steps[-1]
    dropped = [row[0] for row in box.next_dropped()]
    assert sorted(kept + dropped) == steps
    assert not box.next_dropped()


def test_a_full_outbox_drops_the_capture_whose_neighbours_are_closest() -> None:
    box = Outbox(max_bytes=4 * 400)
    for number, step in enumerate((0, 10, 20, 21, 60)):
        box.add_capture(item(number, step))
    # 10 lies between 0 and 20, 20 between 10 and 21, 21 between 20 and 60.
    assert [i.step for i in box._captures] == [0, 10, 21, 60]
    assert box.next_dropped() == [[20, NO_ROOM]]


def test_everything_unacked_is_sent_again_and_nothing_else() -> None:
    box = Outbox()
    box.opened(10**9)
    for number in range(4):
        box.add_capture(item(number, number))
        box.add_scalars(number, 0.0, {"loss": 1.0})
    assert [box.next_capture().number for _ in range(4)] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert len(box.next_rows()) == 4
    assert box.next_rows() == []
    box.capture_acked(1)
    box.scalars_acked(2)
    box.opened(10**9)
    assert [box.next_capture().number for _ in range(3)] == [0, 2, 3]
    assert box.next_capture() is None
    assert [row[0] for row in box.next_rows()] == [3]
    for number in (0, 2, 3):
        box.capture_acked(number)
    box.scalars_acked(3)
    assert box.empty
