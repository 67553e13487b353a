"""Which units and which concepts moved most between two reports of a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.report import LayerArrays

SHOWN = 3


@dataclass(frozen=True)
class Move:
    """One unit: how far its u moved, and its best concept then and now (None where it was or is dead)."""

    unit: int
    distance: float
    was: str | None
    now: str | None


@dataclass(frozen=True)
class Moves:
    """What moved most.

    Attributes:
        units: farthest first; units that died come first of all.
        lost, gained: concepts and the number of units for which they stopped, or began, to be the best.
        died: units that no longer respond.
    """

    units: tuple[Move, ...]
    lost: tuple[tuple[str, int], ...]
    gained: tuple[tuple[str, int], ...]
    died: int

    def sentence(self, since_step: int) -> str:
        """In words; empty if nothing moved."""
        parts = []
        if self.units:
            parts.append("units that moved most: " + ", ".join(_told(move) for move in self.units))
        if self.died:
            parts.append(f"{self.died} {'unit' if self.died == 1 else 'units'} died")
        for verb, concepts in (("lost", self.lost), ("gained", self.gained)):
            if concepts:
                parts.append(f"concepts that {verb} most units: " + ", ".join(f"{c} ({n})" for c, n in concepts))
        return f" Since step {since_step:,}: {'; '.join(parts)}." if parts else ""


def moves(before: LayerArrays, after: LayerArrays, words: Sequence[str], shown: int = SHOWN) -> Moves:
    """Compares two reports of one layer and one fingerprint.

    Args:
        before, after: rows per unit, equally many.
        words: of the concept set; the arrays hold indices into it.
        shown: how many of each are told.
    """
    distance = np.linalg.norm(after.embeddings - before.embeddings, axis=1)
    died = before.live & ~after.live
    distance = np.where(died, np.inf, np.where(before.live & after.live, distance, 0.0))
    order = [int(unit) for unit in np.argsort(-distance, kind="stable")[:shown] if distance[unit] > 0]
    was, now = _best(before, words), _best(after, words)
    change = Counter(c for c in now if c)
    change.subtract(c for c in was if c)
    fewer = sorted((n, concept) for concept, n in change.items() if n < 0)[:shown]
    more = sorted(((-n, concept) for concept, n in change.items() if n > 0))[:shown]
    return Moves(
        units=tuple(Move(unit, float(distance[unit]), was[unit], now[unit]) for unit in order),
        lost=tuple((concept, -n) for n, concept in fewer),
        gained=tuple((concept, -n) for n, concept in more),
        died=int(died.sum()),
    )


def _best(arrays: LayerArrays, words: Sequence[str]) -> list[str | None]:
    best = [int(c) if live else -1 for c, live in zip(arrays.concepts[:, 0], arrays.live, strict=True)]
    return [words[c] if c >= 0 else None for c in best]


def _told(move: Move) -> str:
    if move.now is None:
        return f"{move.unit} ({move.was}, now dead)"
    return f"{move.unit} ({move.was} → {move.now})" if move.was != move.now else f"{move.unit} (still {move.now})"
