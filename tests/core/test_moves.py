"""Which units and concepts moved most, in figures and in words."""

from __future__ import annotations

import numpy as np

from cm_server.core.moves import moves
from cm_server.report import LayerArrays

WORDS = ("dog", "cat", "stripes")


def _arrays(best: list[int], places: list[float], dead: tuple[int, ...] = ()) -> LayerArrays:
    units = len(best)
    live = np.array([unit not in dead for unit in range(units)])
    embeddings = np.array([[p, 0.0] for p in places], np.float32)
    embeddings[~live] = np.nan
    zeros = np.zeros((units, 5), np.float32)
    concepts = np.tile(np.array(best, np.int32)[:, None], (1, 5))
    nine = np.zeros((units, 9))
    return LayerArrays(live, concepts, zeros, zeros[:, 0], embeddings, zeros[:, :2], zeros[:, 0], nine, nine)


def test_the_farthest_units_come_first_and_the_dead_before_them() -> None:
    before = _arrays([0, 0, 1, 1], [0.0, 0.0, 0.0, 0.0])
    after = _arrays([0, 2, 2, 1], [0.1, 0.5, 0.2, 0.0], dead=(3,))
    found = moves(before, after, WORDS)
    assert [(m.unit, m.was, m.now) for m in found.units] == [
        (3, "cat", None),
        (1, "dog", "stripes"),
        (2, "cat", "stripes"),
    ]
    assert (found.lost, found.gained, found.died) == ((("cat", 2), ("dog", 1)), (("stripes", 2),), 1)
    assert found.sentence(1200) == (
        " Since step 1,200: units that moved most: 3 (cat, now dead), 1 (dog → stripes), 2 (cat → stripes); "
        "1 unit died; concepts that lost most units: cat (2), dog (1); concepts that gained most units: stripes (2)."
    )


def test_nothing_is_said_where_nothing_moved() -> None:
    same = _arrays([0, 1], [0.3, 0.4], dead=(1,))
    assert moves(same, same, WORDS).sentence(5) == ""
