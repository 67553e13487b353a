"""Which epoch's word counts at each step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cm_server.stores.lineage import Epoch, cuts, holds

STEPS = st.one_of(st.none(), st.integers(0, 50))
EPOCHS = st.lists(st.tuples(st.floats(0, 9), STEPS), max_size=6).map(
    lambda rows: [Epoch(f"e{i}", begun, first, None) for i, (begun, first) in enumerate(rows)]
)


@given(EPOCHS, st.integers(0, 60))
def test_an_epoch_holds_at_a_step_unless_a_newer_one_began_there_or_before(epochs: list[Epoch], step: int) -> None:
    cut = cuts(epochs)
    order = sorted(epochs, key=lambda e: (e.begun, e.epoch))
    for index, epoch in enumerate(order):
        newer = [e.first_step for e in order[index + 1 :] if e.first_step is not None]
        assert holds(cut, epoch.epoch, step) == all(step < first for first in newer)


@given(EPOCHS)
def test_put_together_the_record_never_turns_back(epochs: list[Epoch]) -> None:
    """Each epoch tells of every step from its first on; what holds is read in the order of the epochs."""
    cut = cuts(epochs)
    told = [
        step
        for epoch in sorted(epochs, key=lambda e: (e.begun, e.epoch))
        if epoch.first_step is not None
        for step in range(epoch.first_step, 61)
        if holds(cut, epoch.epoch, step)
    ]
    assert told == sorted(set(told))


def test_unknown_epochs_hold() -> None:
    assert holds(cuts([Epoch("a", 1.0, 5, 9)]), "of an older store", 7)
