"""How well a layer's units cover the concepts we care about: the paper's Eq. 2, and what must stand beside it.

``d_anchor`` is not monotone in diversity (all units at the centre of the words beat a few sharp ones), falls with the
number of units, and depends on T. So never alone: centroid baseline, coverage, distinct concepts, pairwise distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**21
"""Floats per block of distances: bounds memory whatever the counts."""
_CACHE_FLOATS = 2**18
"""The same on a CPU, whose cache then holds a block from its product to its last use."""
_CANCELLED = 1e-3
"""Below this share of the squared norms, expanded squares have lost too many digits to say which unit is nearest."""


def nearest_unit(embeddings: Tensor, anchors: Tensor) -> Tensor:
    """Distance of each anchor to its nearest unit.

    Args:
        embeddings: u ``[M, D]`` of live units.
        anchors: ``[A, D]``.

    Returns:
        ``[A]`` Euclidean distances; NaN if there is no unit.
    """
    if not len(embeddings):
        return anchors.new_full((len(anchors),), torch.nan)
    half = embeddings.square().sum(dim=1) / 2
    # |a - u|² = |a|² - 2 (a·u - |u|²/2): one matrix product says which unit is nearest.
    blocks = anchors.split(_rows(embeddings))
    best = [torch.addmm(half, block, embeddings.T, beta=-1).max(dim=1).indices for block in blocks]
    return _distances(anchors, embeddings, torch.cat(best), half)


def _distances(anchors: Tensor, embeddings: Tensor, best: Tensor, half: Tensor) -> Tensor:
    """Distance of each anchor to its best unit, from the difference.

    Where that is small against what was subtracted to find the best unit, all units are looked at again.
    """
    distance = torch.linalg.vector_norm(embeddings[best].sub_(anchors), dim=1)
    lengths = torch.linalg.vector_norm(anchors, dim=1).square_().add_(half[best], alpha=2)
    doubtful = distance.square() < _CANCELLED * lengths
    rows = max(1, _BLOCK // len(embeddings) // max(1, embeddings.shape[1]))
    for block in doubtful.nonzero()[:, 0].split(rows):
        distance[block] = _exact_distances(anchors[block], embeddings).amin(dim=1)
    return distance


def anchor_distance(embeddings: Tensor, anchors: Tensor) -> float:
    """d_anchor, Eq. 2: mean over anchors of the distance to the nearest unit; lower is more diverse.

    Args:
        embeddings: u ``[M, D]`` of the live units of a whole layer.
        anchors: ``[A, D]``.

    Returns:
        In [0, 2] for unit-norm anchors; NaN if there is no unit.

    Example:
        >>> anchor_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        0.5
    """
    return float(nearest_unit(embeddings, anchors).double().mean())


def pairwise_distance(embeddings: Tensor) -> float:
    """Mean distance over pairs of units (paper, case IV); NaN below two units.

    Args:
        embeddings: u ``[M, D]`` of live units.

    Example:
        >>> pairwise_distance(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 4.0]]))
        2.0
    """
    units = len(embeddings)
    if units < 2:
        return float("nan")
    # Centred, the squares are of the size of the distances themselves: their difference keeps its digits.
    centred = embeddings - embeddings.mean(dim=0)
    square = centred.square().sum(dim=1)
    total, rows = 0.0, _rows(embeddings)
    for start in range(0, units, rows):
        block, others = centred[start : start + rows], centred[start:]
        distances = torch.addmm(square[start:], block, others.T, alpha=-2).add_(square[start : start + rows, None])
        distances = distances.clamp_min_(0).sqrt_()
        # Pairs inside the block are met twice, those with later units once; a unit's own distance is rounding only.
        distances.diagonal().zero_()
        inside, later = distances[:, : len(block)], distances[:, len(block) :]
        total += float(inside.sum(dim=1).double().sum() / 2 + later.sum(dim=1).double().sum())
    return total / (units * (units - 1) / 2)


def _rows(embeddings: Tensor) -> int:
    """How many rows of distances to all units make a block."""
    return max(1, (_CACHE_FLOATS if embeddings.device.type == "cpu" else _BLOCK) // len(embeddings))


def centroid_distances(anchors: Tensor, text: Tensor) -> Tensor:
    """Distance of each anchor to the mean word: what one unit that says nothing would reach.

    Args:
        anchors: ``[A, D]``.
        text: ``[K, D]``.

    Returns:
        ``[A]``.
    """
    return (anchors - text.mean(dim=0)).norm(dim=1)


def coverage(nearest: Tensor, to_centroid: Tensor) -> float:
    """Share of anchors that have a unit nearer than the mean word, in [0, 1].

    Args:
        nearest: ``[A]`` from :func:`nearest_unit`.
        to_centroid: ``[A]`` from :func:`centroid_distances`.
    """
    return float((nearest < to_centroid).double().mean())


def distinct_concepts(best: Tensor) -> int:
    """Number of different best concepts.

    Args:
        best: concept indices of the interpretable units.
    """
    return int(best.unique().numel())


def _exact_distances(left: Tensor, right: Tensor) -> Tensor:
    """Differences first: the matrix-product form loses small distances to cancellation."""
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
