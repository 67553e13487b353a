"""When to capture: marks, functions, and the budget's laws."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cm_client
from cm_client.errors import ClientError
from cm_client.schedule import BUDGET_STEPS, LOOK, AtMarks, Budget, Chosen, Marks, make_schedule

JUMPS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


def taken(schedule: AtMarks | Chosen, jumps: list[int]) -> list[int]:
    """The steps captured where steps go on by ``jumps``."""
    step, found = 0, []
    for jump in [0, *jumps]:
        step += jump
        if schedule.due(step, 0.0, 0.0):
            schedule.captured(step, 0.0, 1.0)
            assert not schedule.due(step, 0.0, 0.0), "once a step"
            found.append(step)
    return found


def marks_up_to(marks: Marks, last: int) -> list[int]:
    found, step = [0], marks.after(0)
    while step is not None and step <= last:
        found.append(step)
        step = marks.after(step)
    return found


MARKS = st.one_of(
    st.integers(1, 20).map(cm_client.every),
    st.tuples(st.integers(1, 20), st.integers(1, 50)).map(lambda args: cm_client.log_spaced(*args)),
    st.lists(st.integers(0, 500), max_size=20).map(cm_client.at),
)


@given(MARKS, JUMPS)
def test_marks_are_captured_once_each_however_steps_jump(marks: Marks, jumps: list[int]) -> None:
    found = taken(AtMarks(marks), jumps)
    assert found[0] == 0
    due = marks_up_to(marks, sum(jumps))
    assert due == sorted(set(due))
    # Between two captures lies at least one mark, and none is left over at the end.
    for before, after in itertools.pairwise(found):
        assert any(before < mark <= after for mark in due)
    assert not any(mark > found[-1] for mark in due)


@given(MARKS, st.integers(1, 500))
def test_where_every_step_is_seen_exactly_the_marks_are_captured(marks: Marks, steps: int) -> None:
    assert taken(AtMarks(marks), [1] * steps) == marks_up_to(marks, steps)


def test_the_ways_to_say_when() -> None:
    assert taken(make_schedule(4), [1] * 9) == [0, 4, 8]
    assert taken(make_schedule(cm_client.every(4)), [3] * 3) == [0, 6, 9]
    assert taken(make_schedule(cm_client.at([7, 3])), [1] * 9) == [0, 3, 7]
    assert taken(make_schedule(cm_client.log_spaced(2)), [1] * 101) == [0, 1, 3, 10, 32, 100]
    assert taken(make_schedule(lambda step: step in (0, 3)), [1] * 9) == [0, 3]
    assert isinstance(make_schedule(None), Budget)
    marks = cm_client.every(4)
    assert taken(make_schedule(marks), [1] * 4) == taken(make_schedule(marks), [1] * 4), "marks hold no state"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cm_client.every(0), "every 0: give a whole number from 1"),
        (lambda: cm_client.every(2.5), "every 2.5"),
        (lambda: cm_client.log_spaced(0), "per_decade 0"),
        (lambda: cm_client.log_spaced(3, -1), "first -1"),
        (lambda: cm_client.at([3, "x"]), "at 'x': give a whole number from 0"),
    ],
)
def test_odd_marks_are_named(make, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        make()


SECONDS = st.floats(1e-4, 20.0)
COSTS = st.floats(0.0, 5.0)


@given(
    st.lists(st.tuples(SECONDS, COSTS, st.floats(0.0, 0.01), COSTS), min_size=2, max_size=300),
    st.sampled_from([0.001, 0.01, 0.2]),
    st.floats(0.0, 3.0),
)
@settings(deadline=None)
def test_the_budget_is_kept_for_any_steps_and_costs(steps: list, share: float, collecting: float) -> None:
    """Steps of any length, captures of any cost, hooks, and a sender that works on in the background."""
    schedule, now, last = Budget(share), collecting, -BUDGET_STEPS
    spent, costs, allowed = collecting, [], -math.inf
    for step, (seconds, cost, hook, sender) in enumerate(steps):
        now += seconds + hook
        spent += hook
        if not schedule.due(step, now, spent):
            continue
        if costs:
            assert spent <= share * now, "everything before is paid for, whatever it was"
            assert spent + max(costs[-4:]) <= share * now, "and so is what the next may cost"
            assert step - last >= BUDGET_STEPS
            assert now >= allowed, "no burst after a pause"
        before, now, spent = costs[-4:], now + cost, spent + cost
        if before and cost <= max(before):
            assert spent <= share * now, "kept after the capture too, where it cost no more than those before"
        schedule.captured(step, now, cost)
        costs.append(cost)
        last, allowed = step, now + cost / share
        spent += sender * 0.01
    assert costs, "the first is owed"


@given(st.floats(0.01, 1.0), st.floats(0.001, 0.02), st.sampled_from([0.01, 0.1]))
@settings(deadline=None, max_examples=30)
def test_the_budget_is_used_and_not_only_kept(seconds: float, cost: float, share: float) -> None:
    schedule, now, spent, captures = Budget(share), 0.0, 0.0, 0
    for step in range(20_000):
        if schedule.due(step, now, spent):
            now, spent, captures = now + cost, spent + cost, captures + 1
            schedule.captured(step, now, cost)
        now += seconds
    assume(captures > 20)
    most = min(share * now / cost, 20_000 / BUDGET_STEPS)
    assert captures >= BUDGET_STEPS / (BUDGET_STEPS + LOOK) * most - 2


def test_hooks_that_cost_more_than_the_budget_end_the_captures_and_nothing_else() -> None:
    schedule = Budget(0.01)
    assert schedule.due(0, 0.0, 0.0)
    schedule.captured(0, 0.1, 0.1)
    assert not any(schedule.due(step, 0.1 + step * 0.01, 0.1 + step * 0.0002) for step in range(1, 10_000))
