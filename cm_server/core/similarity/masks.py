"""Agreement of masks: which images a concept is on, and which a unit fires for. Beyond CLIP-Dissect's own measures.

A mask is the top 5 % of a column, strictly above the quantile: a column with many equal values has a smaller one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cm_server.core.similarity.units import Similarity

MASK_SHARE = 0.05
_BLOCK = 2**22


def quantile_mask(values: Tensor) -> Tensor:
    """The images above each column's 95 % quantile.

    Args:
        values: ``[N, C]``.

    Returns:
        bool ``[N, C]``; at most 5 % of the images (one at least), none of a constant column.

    Example:
        >>> quantile_mask(torch.tensor([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])).T.tolist()
        [[False, True, False], [False, False, False]]
    """
    kept = _kept(len(values))
    if kept >= len(values):
        return torch.zeros_like(values, dtype=torch.bool)
    return values > values.topk(kept + 1, dim=0).values[-1]


def _kept(images: int) -> int:
    return max(1, int(MASK_SHARE * images))


def iou(image_text: Tensor, activations: Tensor) -> Tensor:
    """Intersection over union of the unit's mask and the concept's.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.

    Returns:
        ``[M, K]`` in [0, 1].
    """
    return prepare_iou(image_text)(activations)


def prepare_iou(image_text: Tensor) -> Similarity:
    """:func:`iou` on one probe set, P ``[N, K]``."""
    concepts = quantile_mask(image_text).to(image_text.dtype)
    sizes = concepts.sum(dim=0)

    def apply(activations: Tensor) -> Tensor:
        units = quantile_mask(activations).to(concepts)
        both = units.T @ concepts  # counts below 2^24 are exact in fp32
        return both / (units.sum(dim=0)[:, None] + sizes - both).clamp_min(1)

    return apply


def auprc(image_text: Tensor, activations: Tensor) -> Tensor:
    """Average precision with which the unit's activation finds the images of the concept's mask.

    ``Σ over positives of precision at the positive's threshold / positives``; equal activations share one threshold
    (the step-wise area under the precision-recall curve, as scikit-learn's ``average_precision_score``).

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.

    Returns:
        ``[M, K]`` in [0, 1]; near 0.05 by chance; 0 for a concept with an empty mask.
    """
    return prepare_auprc(image_text)(activations)


def prepare_auprc(image_text: Tensor) -> Similarity:
    """:func:`auprc` on one probe set, P ``[N, K]``: the concepts' images are listed once."""
    kept = _kept(len(image_text))
    positive = image_text.topk(kept, dim=0).indices
    counted = quantile_mask(image_text).gather(0, positive)
    sizes = counted.sum(dim=0).clamp_min(1)
    images = len(image_text)

    def apply(activations: Tensor) -> Tensor:
        above = _images_at_or_above(activations)
        found = image_text.new_empty(activations.shape[1], image_text.shape[1])
        width = max(1, _BLOCK // kept)
        for unit in range(activations.shape[1]):
            for start in range(0, found.shape[1], width):
                part = slice(start, start + width)
                # Images that only fill the list are sorted to the end and weigh next to nothing, then nothing.
                places = torch.where(counted[:, part], above[unit][positive[:, part]], 2 * images)
                found[unit, part] = _precision(places.T.contiguous(), 2 * images).to(found) / sizes[part]
        return found

    return apply


def _images_at_or_above(activations: Tensor) -> Tensor:
    """For each unit and image, how many images activate the unit as much or more: int64 ``[M, N]``."""
    columns = activations.T.contiguous()
    rising = columns.sort(dim=1).values
    return activations.shape[0] - torch.searchsorted(rising, columns)


def _precision(places: Tensor, absent: int) -> Tensor:
    """Sum over a row's positives of (positives at or above) / (images at or above): int64 ``[K, n]`` to ``[K]``."""
    places = places.sort(dim=1).values
    hits = torch.searchsorted(places, places, right=True)
    return torch.where(places < absent, hits.double() / places, 0.0).sum(dim=1)
