"""The best concepts of a unit, and the images that drive it most."""

from __future__ import annotations

import torch
from torch import Tensor


def top_concepts(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Best concepts per unit.

    Args:
        similarity: ``[M, K]``.
        count: how many; columns beyond K are padded with index -1 and NaN.

    Returns:
        indices int32 ``[M, count]`` and similarities float32 ``[M, count]``, best first.
    """
    return _padded(similarity, count, dim=1)


def top_samples(activations: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Highest-activating probe images per unit.

    Args:
        activations: ``[N, M]``.
        count: how many; beyond N padded with index -1 and NaN.

    Returns:
        indices int32 ``[M, count]`` and activations float32 ``[M, count]``, best first.
    """
    return _padded(activations.T, count, dim=1)


def _padded(values: Tensor, count: int, dim: int) -> tuple[Tensor, Tensor]:
    kept = min(count, values.shape[dim])
    found, index = values.topk(kept, dim=dim)
    pad = (0, count - kept)
    index = torch.nn.functional.pad(index.to(torch.int32), pad, value=-1)
    return index, torch.nn.functional.pad(found.float(), pad, value=torch.nan)
