"""Letters on their way: back-off, order, and no channel or run in another's way."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core.outbox import Failure, Outbox, Retry, arrived, failed
from cm_server.notices import DEAD, QUEUED, Item, Letter, Notice
from cm_server.report import Alert

RETRY = Retry(base=2.0, most=60.0, give_up_after=600.0, queue=5)
_ALERT = Alert(1, "r", "l", "ConceptStall", "warning", "firing", 1, 0.0, 0.0, 0.5, "m", {})


def letter(key: str, channel: str = "a", run: str = "r", queued: float = 0.0, **more) -> Letter:
    return Letter(Notice(key, channel, run, queued, (Item(_ALERT, "firing"),)), queued, **more)


def most(_low: float, high: float) -> float:
    return high


def test_one_letter_per_channel_is_out_and_no_channel_waits_for_another() -> None:
    box = Outbox(RETRY, [letter("1"), letter("2", queued=1), letter("3", "b", queued=2)])
    assert [le.key for le in box.take(10)] == ["1", "3"]
    assert box.take(10) == []
    box.put(arrived(letter("3", "b")))
    assert box.take(10) == []
    box.put(arrived(letter("1")))
    assert [le.key for le in box.take(10)] == ["2"]


def test_a_run_keeps_its_order_and_does_not_hold_up_others() -> None:
    box = Outbox(RETRY, [letter("1"), letter("2", queued=1), letter("3", run="other", queued=2)])
    assert [le.key for le in box.take(10)] == ["1"]
    box.put(replace(letter("1"), attempts=1, next_at=50.0))
    assert [le.key for le in box.take(10)] == ["3"], "letter 2 is about the run whose letter 1 waits"
    box.put(arrived(letter("3", run="other")))
    assert box.take(10) == []
    assert [le.key for le in box.take(50)] == ["1"]


def test_back_off_doubles_up_to_a_limit_and_draws_from_zero() -> None:
    one, waits = letter("1"), []
    for _ in range(8):
        one = failed(one, Failure("x"), 0.0, RETRY, most)
        waits.append(one.next_at)
    assert waits == [4, 8, 16, 32, 60, 60, 60, 60]
    assert failed(letter("1"), Failure("x"), 0.0, RETRY, lambda low, high: low).next_at == 0.0


@pytest.mark.parametrize(
    ("failure", "now", "state"),
    [
        (Failure("no", permanent=True), 0.0, DEAD),
        (Failure("no"), 599.0, QUEUED),
        (Failure("no"), 600.0, DEAD),
        (Failure("busy", retry_after=500), 0.0, QUEUED),
        (Failure("busy", retry_after=5000), 0.0, DEAD),
    ],
)
def test_giving_up(failure: Failure, now: float, state: str) -> None:
    after = failed(letter("1"), failure, now, RETRY, most)
    assert (after.state, after.attempts, after.error) == (state, 1, failure.reason)
    if state == QUEUED:
        assert now + failure.retry_after <= after.next_at <= 600.0, "one more attempt at the limit"


def test_a_full_queue_gives_up_its_oldest_that_is_not_out() -> None:
    box = Outbox(RETRY, [letter(str(n), queued=n) for n in range(5)])
    box.take(10)
    displaced = box.overflow("a")
    assert displaced is not None
    assert (displaced.key, displaced.state) == ("1", DEAD)
    assert "more than 5" in displaced.error
    box.put(displaced)
    assert box.overflow("a") is None
    assert box.overflow("b") is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 30))
def test_every_letter_ends_and_each_run_in_order(seed: int, luck: float, count: int) -> None:
    """With any luck: delivered or dead, never in limbo; and per run and channel in the order of writing."""
    chance = random.Random(seed)
    letters = [letter(str(n), chance.choice("ab"), chance.choice("rs"), float(n)) for n in range(count)]
    box, ended, now = Outbox(replace(RETRY, queue=100), letters), [], 0.0
    while len(box) and now < 10_000:
        for one in box.take(now):
            good = chance.random() < luck
            after = arrived(one) if good else failed(one, Failure("x"), now, RETRY, chance.uniform)
            box.put(after)
            ended += [after] if after.state != QUEUED else []
        now += 1.0
    assert sorted(le.key for le in ended) == sorted(le.key for le in letters)
    for channel in "ab":
        for run in "rs":
            mine = [le.queued for le in ended if (le.notice.channel, le.notice.run) == (channel, run)]
            assert mine == sorted(mine)
