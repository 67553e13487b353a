"""A wide layer among many words: no matrix of all units by all words is held, measured in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import engine_memory

UNITS, WORDS, PROBES = 8192, 12_000, 16
MEGABYTE = 2**20


def test_the_matrix_of_all_units_by_all_words_is_never_held(tmp_path: Path) -> None:
    """cos_cubed; soft_wpmi takes a minute and is measured by ``tests/bench/engine.py``."""
    found = engine_memory.measure("cos_cubed", UNITS, WORDS, PROBES, str(tmp_path))
    similarity = 4 * UNITS * WORDS / MEGABYTE
    assert found["live"] == UNITS
    assert found["peak_mb"] - found["base_mb"] < similarity
