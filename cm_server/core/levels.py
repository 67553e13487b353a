"""All similarities of a layer in two bytes each, for drawing d_anchor at another T later.

A unit's similarities are cut into 65,536 equal levels between its lowest and its highest one. At a range of 1 a level
is 1.5e-5 wide; float16 would be thirty times coarser at 0.5, and at T = 0.01 an error of 2.4e-4 is 2.4 % of a weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 65_535
"""Steps between a unit's lowest and highest similarity."""
OFFSET = 32_768
"""Levels are stored as int16, which begins here below zero."""


def to_levels(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts similarities into levels.

    Args:
        similarity: ``[M, K]``, finite, K > 0.

    Returns:
        levels ``[M, K]`` int16, and each unit's lowest and highest similarity ``[M, 2]`` float32.

    Example:
        >>> levels, ends = to_levels(torch.tensor([[0.0, 0.5, 1.0]]))
        >>> (levels.tolist(), ends.tolist())
        ([[-32768, 0, 32767]], [[0.0, 1.0]])
    """
    low, high = similarity.amin(dim=1, keepdim=True), similarity.amax(dim=1, keepdim=True)
    width = (high - low).clamp_min(torch.finfo(similarity.dtype).tiny * LEVELS)
    share = ((similarity - low) / width).clamp(0, 1)
    levels = (share * LEVELS).round().sub(OFFSET).to(torch.int16)
    return levels, torch.cat([low, high], dim=1).float()
