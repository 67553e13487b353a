"""Two runs' maps in one frame: the turn, mirror, size and shift that bring shared words closest together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes

from cm_server.projections.base import ProjectionError

FEWEST_SHARED = 3
"""Two points leave a mirror open."""


@dataclass(frozen=True)
class Alignment:
    """A similarity transform of the plane, ``x -> scale * (x - centre) @ turn + shift``.

    Attributes:
        turn: ``[2, 2]`` orthogonal: a rotation, or one with a mirror.
        scale: above 0.
        centre, shift: ``[2]``.
        residual: root mean square distance of the shared words after the transform, as a share of the target's own
            spread, [0, 1]: 0 the same picture, 1 nothing in common.
        shared: number of words it was fitted to.
    """

    turn: np.ndarray
    scale: float
    centre: np.ndarray
    shift: np.ndarray
    residual: float
    shared: int

    def apply(self, places: np.ndarray) -> np.ndarray:
        """Places ``[n, 2]`` of the source in the target's frame."""
        return self.scale * (places - self.centre) @ self.turn + self.shift


def procrustes(source: np.ndarray, target: np.ndarray) -> Alignment:
    """The best similarity transform from ``source`` onto ``target`` (Gower 1975), least squares.

    Args:
        source, target: ``[n, 2]``, row by row the same word, n >= 3.

    Raises:
        ProjectionError: fewer than three words, or all of them on one spot.
    """
    if len(source) < FEWEST_SHARED:
        raise ProjectionError(f"{len(source)} shared words: maps can be aligned on {FEWEST_SHARED} or more")
    centre, shift = source.mean(axis=0), target.mean(axis=0)
    left, right = source - centre, target - shift
    spread, wanted = float((left**2).sum()), float((right**2).sum())
    if spread == 0 or wanted == 0:
        raise ProjectionError("all shared words stand on one spot of a map: it cannot be aligned")
    turn, overlap = orthogonal_procrustes(left, right)
    unexplained = max(0.0, 1 - float(overlap) ** 2 / (spread * wanted))
    return Alignment(turn, float(overlap) / spread, centre, shift, float(np.sqrt(unexplained)), len(source))


def align_maps(
    source_words: Sequence[str], source: np.ndarray, target_words: Sequence[str], target: np.ndarray
) -> Alignment:
    """As `procrustes`, on the words that both maps have.

    Args:
        source_words, target_words: K words each map shows.
        source, target: their places ``[K, 2]``.
    """
    at = {word: index for index, word in enumerate(target_words)}
    pairs = [(i, at[word]) for i, word in enumerate(source_words) if word in at]
    here, there = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return procrustes(source[here].astype(np.float64), target[there].astype(np.float64))
