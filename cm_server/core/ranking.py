"""The best concepts of a unit, and the images that drive it most."""

from __future__ import annotations

import torch
from torch import Tensor

from cm_server.core.similarity import top_images


def top_concepts(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Best concepts per unit.

    Args:
        similarity: ``[M, K]``.
        count: how many; columns beyond K are padded with index -1 and NaN.

    Returns:
        indices int32 ``[M, count]`` and similarities float32 ``[M, count]``, best first.
    """
    found, index = similarity.topk(min(count, similarity.shape[1]), dim=1)
    return _padded(found, index, count)


def top_samples(activations: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Highest-activating probe images per unit; of equal ones the first comes first.

    Args:
        activations: ``[N, M]``.
        count: how many; beyond N padded with index -1 and NaN.

    Returns:
        indices int32 ``[M, count]`` and activations float32 ``[M, count]``, best first.
    """
    found, index = top_images(activations, count)
    return _padded(found.T, index.T, count)


def _padded(found: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    pad = (0, count - found.shape[1])
    index = torch.nn.functional.pad(index.to(torch.int32), pad, value=-1)
    return index, torch.nn.functional.pad(found.float(), pad, value=torch.nan)
