"""Which concepts a layer's interpretable units speak of, and which it gained and lost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cm_server.report import LayerReport


def census(report: LayerReport) -> Counter[int]:
    """Interpretable units by their best concept; the counts add up to ``summary.interpretable``."""
    clear = np.asarray(report.interpretable, dtype=bool)
    return Counter(int(c) for c in report.arrays.concepts[clear, 0] if c >= 0)


@dataclass(frozen=True)
class Turnover:
    """What changed between two snapshots of one layer.

    Attributes:
        gained: (concept, units now) of concepts that had no unit before, the most units first.
        lost: (concept, units before) of concepts that have none now.
        kept: concepts with units in both.
    """

    gained: tuple[tuple[int, int], ...]
    lost: tuple[tuple[int, int], ...]
    kept: int


def turnover(before: Mapping[int, int], now: Mapping[int, int]) -> Turnover:
    """Concepts gained and lost: every concept of either is in exactly one of the three.

    Args:
        before, now: units by concept.
    """
    gained = Counter({c: n for c, n in now.items() if not before.get(c)})
    lost = Counter({c: n for c, n in before.items() if n and not now.get(c)})
    kept = sum(1 for c, n in now.items() if n and before.get(c))
    return Turnover(ranked(gained), ranked(lost), kept)


def ranked(counts: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """(concept, units), the most units first, then by the concepts' order; concepts without units are left out."""
    return tuple(sorted(((c, n) for c, n in counts.items() if n > 0), key=lambda one: (-one[1], one[0])))
