"""Two snapshots with known differences."""

from __future__ import annotations

import numpy as np
import pytest

from cm_server.core.evolution import Flip, Moment, approach, class_concepts, evolution, frequent_concepts

NAN = np.full(2, np.nan)
BEFORE = Moment(
    embeddings=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], NAN, [1.0, 1.0]]),
    concepts=np.array([[7, 1], [8, 2], [9, 3], [-1, -1], [7, 4]]),
    interpretable=np.array([True, True, False, False, True]),
)
AFTER = Moment(
    embeddings=np.array([[0.0, 3.0], [1.0, 4.0], [0.0, 1.0], [2.0, 2.0], [1.0, 1.0]]),
    concepts=np.array([[5, 7], [6, 2], [9, 3], [9, 1], [7, 4]]),
    interpretable=np.array([True, True, True, True, False]),
)


def test_what_changed_is_named_unit_by_unit() -> None:
    found = evolution(BEFORE, AFTER)
    assert found.shift[[0, 1, 2, 4]].tolist() == [3.0, 4.0, 0.0, 0.0]
    assert np.isnan(found.shift[3])
    assert found.flips == (Flip(1, 8, 6, 4.0), Flip(0, 7, 5, 3.0))
    assert found.became.tolist() == [2, 3]
    assert found.ceased.tolist() == [4]
    assert found.gained == (5, 6, 9)
    assert found.lost == (7, 8)


def test_nothing_changes_between_a_snapshot_and_itself() -> None:
    found = evolution(AFTER, AFTER)
    assert found.shift.max() == 0
    assert not found.flips
    assert not len(found.became)
    assert found.gained == found.lost == ()
    assert set(class_concepts(AFTER, AFTER)) == {((), ())}


def test_a_units_concepts_gained_and_lost_are_those_among_its_best() -> None:
    assert class_concepts(BEFORE, AFTER)[:4] == [((5,), (1,)), ((6,), (8,)), ((), ()), ((9, 1), ())]


def test_approach_is_positive_for_units_that_came_nearer() -> None:
    nearer = approach(BEFORE, AFTER, np.array([0.0, 3.0]))
    assert nearer[0] == pytest.approx(3.0)
    assert nearer[2] == 0
    assert np.isnan(nearer[3])


def test_the_most_frequent_concepts_count_interpretable_units_per_snapshot() -> None:
    assert frequent_concepts([BEFORE, AFTER], 2) == [(7, 1.0), (9, 1.0)]
    assert frequent_concepts([BEFORE, AFTER], 9)[2:] == [(5, 0.5), (6, 0.5), (8, 0.5)]
    assert frequent_concepts([], 3) == []


def test_snapshots_of_other_layers_are_refused() -> None:
    other = Moment(BEFORE.embeddings[:2], BEFORE.concepts[:2], BEFORE.interpretable[:2])
    with pytest.raises(ValueError, match="cannot be compared"):
        evolution(BEFORE, other)
