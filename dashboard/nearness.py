"""How near neurons are to each other and to words, in text space. Pure; distances of u (Eq. 1), lower is nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.anchors import UserAnchor
from cm_server.report import LayerReport


@dataclass(frozen=True)
class Near:
    """A unit and its distance from what was asked for, [0, 2] for words."""

    unit: int
    distance: float


@dataclass(frozen=True)
class AnchorDistance:
    """How far one unit is from an anchor.

    Attributes:
        anchor: the anchor.
        distance: ‖u − f(a)‖ now.
        start: the same at the first comparable snapshot; NaN where the unit was dead.
        rank: how many live units are nearer, plus one.
        live: units that were ranked.
    """

    anchor: UserAnchor
    distance: float
    start: float
    rank: int
    live: int


def distances(embeddings: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Each unit's distance from a place in text space, ``[M]``; NaN for dead units.

    Args:
        embeddings: ``[M, D]``, NaN rows for dead units.
        vector: ``[D]``.
    """
    return np.linalg.norm(embeddings.astype(np.float64) - vector.astype(np.float64), axis=1)


def nearest(embeddings: np.ndarray, vector: np.ndarray, count: int, leave_out: int | None = None) -> list[Near]:
    """The live units nearest to a place in text space, nearest first.

    Args:
        embeddings: ``[M, D]``, NaN rows for dead units.
        vector: ``[D]``.
        count: at most.
        leave_out: a unit that is not listed: the one that was asked about.
    """
    found = distances(embeddings, vector)
    if leave_out is not None and 0 <= leave_out < len(found):
        found[leave_out] = np.nan
    order = np.argsort(found, kind="stable")  # NaN sorts last
    return [Near(int(unit), float(found[unit])) for unit in order[:count] if np.isfinite(found[unit])]


def neighbours(report: LayerReport, unit: int, count: int = 8) -> list[Near]:
    """The live units whose u is nearest to that of a live unit, nearest first; none for a dead one."""
    embeddings = report.arrays.embeddings
    if not report.arrays.live[unit]:
        return []
    return nearest(embeddings, embeddings[unit], count, leave_out=unit)


def comparable(anchor: UserAnchor, embeddings: np.ndarray) -> bool:
    """Whether a distance between the anchor and units can be taken at all: both lie in spaces of one width."""
    return embeddings.ndim == 2 and anchor.vector.shape == (embeddings.shape[1],)


def anchor_distances(
    anchors: Sequence[UserAnchor], now: np.ndarray, start: np.ndarray | None, unit: int
) -> list[AnchorDistance]:
    """How far a live unit is from each anchor of its space, nearest first.

    Args:
        anchors: of the run.
        now: u of the layer's units ``[M, D]``.
        start: the same at the first comparable snapshot; None if that is this one.
        unit: the unit.
    """
    found = []
    for anchor in (anchor for anchor in anchors if comparable(anchor, now)):
        every = distances(now, anchor.vector)
        live = every[np.isfinite(every)]
        before = float("nan")
        if start is not None and start.shape == now.shape:
            before = float(distances(start[unit : unit + 1], anchor.vector)[0])
        if np.isfinite(every[unit]):
            rank = int((live < every[unit]).sum()) + 1
            found.append(AnchorDistance(anchor, float(every[unit]), before, rank, len(live)))
    return sorted(found, key=lambda one: one.distance)
