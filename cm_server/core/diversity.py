"""How well a layer's units cover the concepts we care about: the paper's Eq. 2, and what must stand beside it.

``d_anchor`` is not monotone in diversity (all units at the centre of the words beat a few sharp ones), falls with the
number of units, and depends on T. So never alone: centroid baseline, coverage, distinct concepts, pairwise distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**26
"""Floats per distance block: bounds memory at 256 MB whatever the counts."""


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
    rows = max(1, _BLOCK // (len(embeddings) * max(1, embeddings.shape[1])))
    return torch.cat([_exact_distances(block, embeddings).amin(dim=1) for block in anchors.split(rows)])


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
    """
    units = len(embeddings)
    if units < 2:
        return float("nan")
    return float(_exact_distances(embeddings, embeddings).double().sum() / (units * (units - 1)))


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
