"""Turns and allowances: laws that hold for any order of arrivals."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from cm_server.core.allowance import Allowance, Allowances
from cm_server.core.fairness import FairQueue

ARRIVALS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40)), max_size=60)


@given(ARRIVALS, st.integers(1, 50), st.integers(1, 200), st.lists(st.booleans(), max_size=60))
def test_nothing_is_lost_and_a_senders_order_is_kept(
    arrivals: list[tuple[str, int]], quantum: int, most: int, takes: list[bool]
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(quantum, most)
    came: dict[str, list[int]] = defaultdict(list)
    gone: dict[str, list[int]] = defaultdict(list)

    def see_to(items: list[tuple[str, int]]) -> None:
        for sender, number in items:
            gone[sender].append(number)

    for number, (sender, cost) in enumerate(arrivals):
        came[sender].append(number)
        see_to(queue.put(sender, (sender, number), cost))
        assert sum(line.cost for line in queue._lines.values()) <= 3 * max(most, 40)
        if number < len(takes) and takes[number] and (item := queue.take()) is not None:
            see_to([item])
    see_to(list(queue.drain(1000)))
    assert len(queue) == 0
    assert gone == came


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 30))
def test_a_sender_waits_for_one_turn_of_the_others_however_much_they_sent(flood: int, cost: int, own: int) -> None:
    """By counts: before the good sender's n-th item at most n turns of the other were served."""
    queue: FairQueue[str] = FairQueue(quantum=30, most=10**9)
    for _ in range(flood):
        queue.put("bad", "bad", cost)
    for _ in range(5):
        queue.put("good", "good", own)
    order = list(queue.drain(10**6))
    assert len(order) == flood + 5
    for n in range(1, 6):
        place = [i for i, item in enumerate(order) if item == "good"][n - 1]
        bad = order[:place].count("bad")
        turns = -(-n * own // 30)  # the good sender's own turns up to here
        assert bad * cost <= (turns + 1) * 30 + cost


@given(st.lists(st.floats(0, 2, allow_nan=False), max_size=50), st.floats(0.1, 50), st.integers(1, 20))
def test_no_more_is_granted_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    allowance, now, granted = Allowance(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        granted += allowance.take(now)
    assert granted <= burst + rate * now + 1e-6


def test_a_clock_that_jumps_back_grants_nothing_and_breaks_nothing() -> None:
    allowance = Allowance(rate=1.0, burst=1)
    assert [allowance.take(now) for now in (100.0, 50.0, 50.5, 51.0)] == [True, False, False, True]


def test_each_has_an_allowance_and_only_so_many_are_remembered() -> None:
    each = Allowances(rate=0.0, burst=1, most=2)
    assert [each.take(who, 0.0) for who in "aabb"] == [True, False, True, False]
    assert each.take("c", 0.0)
    assert len(each) == 2
    assert not each.take("b", 0.0), "seen a moment ago"
    assert each.take("a", 0.0), "forgotten, and begins anew"
