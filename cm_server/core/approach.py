"""How near a layer's units are to words that somebody watches."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP_SHARE = 0.05
"""The nearest twentieth of the units counts: one odd unit is no group, and half of a layer never moves at once."""


def group_distance(embeddings: Tensor, words: Tensor) -> Tensor:
    """Mean distance from each word of the group of units nearest to it.

    Args:
        embeddings: u of Eq. 1, ``[M, D]``, M >= 1, live units only.
        words: text embeddings ``[W, D]``, unit rows.

    Returns:
        ``[W]``, in the units of d_anchor.

    Example:
        >>> units = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> group_distance(units, units[:1])
        tensor([0.])
    """
    group = max(1, round(GROUP_SHARE * len(embeddings)))
    return torch.cdist(words, embeddings).topk(group, dim=1, largest=False).values.mean(dim=1)
