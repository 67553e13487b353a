"""What a step is, as a pure law: any loop, however its forwards and optimisers are interleaved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_client.steps import BLIND_AFTER, StepCounter

ROUNDS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=20)


@given(ROUNDS, st.booleans(), st.integers(0, 1000))
def test_a_step_is_any_number_of_forwards_and_then_one_step_of_each_optimiser(
    rounds: list[tuple[int, int]], known: bool, start: int
) -> None:
    counter = StepCounter(lambda: False, known, start)
    for done, (forwards, optimisers) in enumerate(rounds, start):
        assert [counter.forward() for _ in range(forwards)] == [done] * forwards
        for optimiser in range(optimisers):
            counter.stepping()
            counter.stepped(optimiser)
        assert counter.step == counter.now() == done + 1
    assert not counter.blind


@given(st.integers(2, 40))
def test_without_an_optimiser_forwards_count_from_the_first_that_moved_the_weights(forwards: int) -> None:
    moved = iter([False, *[True] * forwards])
    counter = StepCounter(lambda: next(moved))
    assert [counter.forward() for _ in range(forwards)] == list(range(forwards))
    assert counter.step == forwards


@given(st.lists(st.sampled_from(["forward", "a", "b", "moved"]), max_size=60))
def test_steps_never_go_back_and_are_never_more_than_what_was_seen(events: list[str]) -> None:
    moved = False
    counter = StepCounter(lambda: moved)
    last = 0
    for event in events:
        if event == "forward":
            counter.forward()
        elif event == "moved":
            moved = True
        else:
            counter.stepping()
            counter.stepped(event)
        assert counter.now() >= last
        last = counter.now()
    assert last <= len(events)


@pytest.mark.parametrize("seen", [0, 3])
def test_forwards_out_of_sight(seen: int) -> None:
    """The optimiser steps on although no forward is seen any more: after some patience each of its steps counts."""
    counter = StepCounter(lambda: False)
    for _ in range(seen):
        counter.forward()
        counter.stepping()
        counter.stepped("a")
    steps = []
    for _ in range(30):
        counter.stepping()
        counter.stepped("a")
        steps.append(counter.step)
    assert steps[-1] == seen + 30
    assert steps[BLIND_AFTER:] == list(range(seen + BLIND_AFTER + 1, seen + 31))
    assert counter.blind
    counter.forward()
    assert not counter.blind


def test_what_the_user_says_goes_before_everything() -> None:
    counter = StepCounter(lambda: True)
    counter.tell(1000)
    counter.forward()
    counter.stepping()
    counter.stepped("a")
    assert counter.step == counter.now() == 1000
