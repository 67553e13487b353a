"""The outbox: nothing un-acked is forgotten but counted drops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cm_client.outbox import NO_ROOM, CaptureItem, Outbox
from cm_client.rows import BATCH_BYTES, BATCH_ROWS, row_bytes, row_cost

ROOM, ROW_ROOM, CREDIT = 4000, 60_000, 1500


def item(number: int, step: int, size: int = 100) -> CaptureItem:
    return CaptureItem(number, step, 0.0, "f", {"layer": np.zeros((1, size), np.float32)})


class OutboxLaws(RuleBasedStateMachine):
    """Anything may happen in any order; after each event the laws hold."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(max_bytes=ROOM, max_row_bytes=ROW_ROOM)
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
        self.box.rows.add(self.step, 0.0, {f"name {i}": 0.0 for i in range(names)})
        self.rows += 1

    @rule()
    def send_rows(self) -> None:
        rows = self.box.rows.next_rows()
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
            self.box.rows.acked(self.sent_rows[-1])

    @rule()
    def reconnect(self) -> None:
        self.box.opened(CREDIT)
        self.sent.clear()
        self.sent_rows.clear()
        self.told = 0  # all that is not acked is told again

    @rule()
    def tell(self) -> None:
        self.told += len(self.box.next_dropped()[0])

    @invariant()
    def captures_are_kept_or_counted(self) -> None:
        kept = list(self.box._captures)
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
        spare = [k for k in list(self.box._captures.values())[:-1] if not k.sent and k.number != 0]
        assert self.box.nbytes <= ROOM or not spare
        assert self.box.in_flight <= CREDIT or len(self.sent) == 1
        assert self.box.nbytes == sum(k.nbytes for k in self.box._captures.values())
        assert self.box.in_flight == sum(k.nbytes for k in self.box._captures.values() if k.sent)

    @invariant()
    def rows_are_kept_or_counted(self) -> None:
        kept = [row[0] for row in self.box.rows._rows]
        assert kept == list(range(self.rows - len(kept), self.rows))
        assert self.box.rows.nbytes == sum(row_cost(row[3]) for row in self.box.rows._rows)
        assert self.box.rows.nbytes <= ROW_ROOM
        assert self.box.rows.unacked == len(kept)
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
    kept = [k.step for k in box._captures.values()]
    assert len(kept) == 4
    assert kept[0] == steps[0]
    assert kept[-1] == steps[-1]
    rows, numbers = box.next_dropped()
    dropped = [row[0] for row in rows]
    assert [steps[number] for number in numbers] == dropped
    assert sorted(kept + dropped) == steps
    assert not box.next_dropped()[0]


def test_a_full_outbox_drops_the_capture_whose_neighbours_are_closest() -> None:
    box = Outbox(max_bytes=4 * 400)
    for number, step in enumerate((0, 10, 20, 21, 60)):
        box.add_capture(item(number, step))
    # 10 lies between 0 and 20, 20 between 10 and 21, 21 between 20 and 60.
    assert [k.step for k in box._captures.values()] == [0, 10, 21, 60]
    assert box.next_dropped() == ([[20, NO_ROOM]], [2])
    assert not box.empty
    box.tell_again()
    assert box.next_dropped() == ([[20, NO_ROOM]], [2])


def test_everything_unacked_is_sent_again_and_nothing_else() -> None:
    box = Outbox()
    box.opened(10**9)
    for number in range(4):
        box.add_capture(item(number, number))
        box.rows.add(number, 0.0, {"loss": 1.0})
    assert [box.next_capture().number for _ in range(4)] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert len(box.rows.next_rows()) == 4
    assert box.rows.next_rows() == []
    box.capture_acked(1)
    box.rows.acked(2)
    box.opened(10**9)
    assert [box.next_capture().number for _ in range(3)] == [0, 2, 3]
    assert box.next_capture() is None
    assert [row[0] for row in box.rows.next_rows()] == [3]
    for number in (0, 2, 3):
        box.capture_acked(number)
    box.rows.acked(3)
    assert box.empty
