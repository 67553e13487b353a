"""The paper's Eq. 1 and 2 once more, on what a store keeps, for readers without torch: another T, another τ.

It must agree with `cm_server.core` (tests hold them together); the engine's own numbers always stand in the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cm_server.report import LayerArrays, LayerReport

LEVELS, OFFSET = 65_535, 32_768
"""As in `cm_server.core.levels`."""
_BLOCK = 2**22
"""Floats that are worked on at once."""
_CANCELLED = 1e-3
"""As in `core.diversity`: below this share of the squared norms the product cannot say which unit is nearest."""


def similarities(arrays: LayerArrays) -> np.ndarray | None:
    """All similarities of the live units, ``[live, K]`` float32, to within half a level; None where not kept."""
    if arrays.levels is None or arrays.ends is None:
        return None
    levels, ends = arrays.levels[arrays.live], arrays.ends[arrays.live].astype(np.float32)
    width = (ends[:, 1:] - ends[:, :1]) / np.float32(LEVELS)
    return ends[:, :1] + (levels.astype(np.float32) + OFFSET) * width


def embeddings(similarity: np.ndarray, text: np.ndarray, temperature: float) -> np.ndarray:
    """u of Eq. 1 for another T.

    Args:
        similarity: ``[M, K]``.
        text: ``[K, D]``, unit rows.
        temperature: T > 0.

    Returns:
        ``[M, D]``.

    Raises:
        ValueError: T is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0")
    rows = max(1, _BLOCK // max(1, similarity.shape[1]))
    found = np.empty((len(similarity), text.shape[1]), dtype=np.float32)
    for start in range(0, len(similarity), rows):
        block = similarity[start : start + rows] / np.float32(temperature)
        weights = np.exp(block - block.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        weights[weights < 1e-12] = 0.0  # subnormal numbers slow the product fifty times and change nothing
        found[start : start + rows] = weights @ text
    return found


def anchor_distance(units: np.ndarray, anchors: np.ndarray) -> float:
    """d_anchor, Eq. 2: mean over anchors of the distance to the nearest unit; lower is more diverse.

    Args:
        units: u ``[M, D]``, live ones.
        anchors: ``[A, D]``.

    Returns:
        In [0, 2] for unit-norm anchors; NaN if there is no unit.

    Example:
        >>> anchor_distance(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]))
        0.5
    """
    if not len(units) or not len(anchors):
        return float("nan")
    half = np.square(units).sum(axis=1) / 2
    rows = max(1, _BLOCK // len(units))
    total = 0.0
    for start in range(0, len(anchors), rows):
        block = anchors[start : start + rows]
        nearest = (block @ units.T - half).argmax(axis=1)  # the distance itself is taken from the difference
        found = np.linalg.norm(units[nearest] - block, axis=1)
        lengths = np.square(block).sum(axis=1) + 2 * half[nearest]
        for row in np.flatnonzero(np.square(found) < _CANCELLED * lengths):
            found[row] = np.linalg.norm(units - block[row], axis=1).min()
        total += float(found.sum(dtype=np.float64))
    return total / len(anchors)


def d_anchor(report: LayerReport, text: np.ndarray, anchors: np.ndarray, temperature: float) -> float | None:
    """A stored layer's d_anchor at another T; None where its similarities were not kept.

    Args:
        report: one layer of one snapshot.
        text: ``[K, D]``.
        anchors: indices of the anchor words.
        temperature: T > 0.
    """
    similarity = similarities(report.arrays)
    return None if similarity is None else anchor_distance(embeddings(similarity, text, temperature), text[anchors])


def categories_at(report: LayerReport, categories: Sequence[str], tau: float) -> Counter[str]:
    """Units per category of their best concept whose best similarity is above a τ of one's own (paper, Fig. 12, 13).

    Args:
        report: one layer of one snapshot.
        categories: of the concept set; empty where unknown.
        tau: taken alone, without the calibrated null.
    """
    arrays = report.arrays
    clear = arrays.live & (arrays.similarities[:, 0] > tau)
    best: list[int] = arrays.concepts[clear, 0].tolist()
    return Counter(str(categories[concept] or "other") for concept in best)


def distances(units: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Distance of each unit's u to an anchor word, ``[M]``; NaN for dead units.

    Args:
        units: u ``[M, D]``, NaN rows for dead units.
        anchor: ``[D]``.
    """
    return np.linalg.norm(units - anchor, axis=1)


def group_distance(units: np.ndarray, anchor: np.ndarray, share: float = 0.05) -> float:
    """Mean distance from an anchor of the nearest group of live units, as `core.approach.group_distance` has it.

    Args:
        units: u ``[M, D]``, NaN rows for dead units.
        anchor: ``[D]``.
        share: of the live units; one at least.

    Returns:
        NaN where no unit is live.
    """
    found = distances(units, anchor)
    found = np.sort(found[np.isfinite(found)])
    return float(found[: max(1, round(share * len(found)))].mean()) if len(found) else float("nan")
