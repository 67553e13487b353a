"""Which snapshots keep their arrays: what always holds, whatever the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_server.core.retention import Kept, Retention, RetentionError, given_up, parse

RULES = st.builds(
    Retention,
    last=st.integers(0, 30),
    every=st.integers(0, 9),
    thin=st.integers(0, 12),
    limit=st.one_of(st.just(0), st.integers(1, 600)),
)
SNAPSHOTS = st.lists(st.builds(Kept, st.integers(1, 20), st.sampled_from([False] * 9 + [True])), max_size=120)


def _after(snapshots: list[Kept], gone: list[int]) -> list[Kept]:
    return [Kept(0, one.pinned) if at in set(gone) else one for at, one in enumerate(snapshots)]


@given(SNAPSHOTS, RULES)
def test_the_newest_always_stays_and_what_is_gone_is_not_given_up_twice(
    snapshots: list[Kept], rules: Retention
) -> None:
    gone = given_up(snapshots, rules)
    assert gone == sorted(set(gone))
    assert len(snapshots) - 1 not in gone
    assert given_up(_after(snapshots, gone), rules) == [], "twice is the same as once"


@given(SNAPSHOTS, RULES)
def test_without_a_limit_the_first_and_what_is_pinned_stay(snapshots: list[Kept], rules: Retention) -> None:
    gone = given_up(snapshots, Retention(rules.last, rules.every, rules.thin))
    assert 0 not in gone
    assert not any(snapshots[at].pinned for at in gone)


@given(SNAPSHOTS, st.integers(1, 400))
def test_a_limit_is_kept_unless_the_newest_alone_is_larger(snapshots: list[Kept], limit: int) -> None:
    left = _after(snapshots, given_up(snapshots, Retention(limit=limit)))
    assert sum(one.size for one in left) <= max(limit, snapshots[-1].size if snapshots else 0)


@given(st.integers(1, 150), RULES, st.integers(1, 40))
def test_applying_rules_as_a_run_grows_keeps_what_applying_them_once_would(
    count: int, rules: Retention, pause: int
) -> None:
    """A server applies its rules every minute; a person once. Both get the same, so nothing was given up too early."""
    rules = Retention(rules.last, rules.every, rules.thin)  # a limit depends on what is there at each time
    grown: list[Kept] = []
    for number in range(count):
        grown.append(Kept(1))
        if number % pause == 0:
            grown = _after(grown, given_up(grown, rules))
    grown = _after(grown, given_up(grown, rules))
    once = _after([Kept(1)] * count, given_up([Kept(1)] * count, rules))
    assert grown == once


def test_thinning_keeps_all_of_the_newest_and_ever_fewer_with_age() -> None:
    snapshots = [Kept(1)] * 1024
    left = [at for at in range(1024) if at not in set(given_up(snapshots, Retention(thin=64)))]
    by_age = [sum(1 for at in left if low <= 1023 - at < 2 * low) for low in (64, 128, 256, 512)]
    assert sum(at >= 1024 - 64 for at in left) == 64
    assert all(30 <= count <= 34 for count in by_age), by_age


@pytest.mark.parametrize("rules", ["last", "last:0", "newest:3", "last:3;every:2", "every:x", "last:1,last:2"])
def test_rules_that_cannot_be_read_are_named(rules: str) -> None:
    with pytest.raises(RetentionError, match="give all, or one or more of last:N"):
        parse(rules)
