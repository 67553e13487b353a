"""From whatever a module returns to one small map per image and unit. Pure; `pooling` is for one value each."""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cm_client.errors import ClientError
from cm_client.pooling import first_tensor, is_channels_last

_LARGEST = 65504.0
"""float16's largest number: what is larger would become infinite, and the server would take the unit for dead."""


def to_map(output: Any, size: tuple[int, int], channels_last: bool | None = None) -> Tensor:
    """Maps of at most ``size``, by adaptive averages; what is smaller stays as it is.

    Args:
        output: what a module returned: ``[N, C, H, W]`` or ``[N, H, W, C]``; ``[N, T, C]`` with T or T - 1 (after a
            class token) a square number; ``[N, C]`` as maps of one position; in tuples and mappings too.
        size: largest height and width.
        channels_last: layout of 4-D outputs; None looks at the shape.

    Returns:
        float16 ``[N, C, h, w]``; NaN stays NaN, finite values are clamped to float16's range.

    Raises:
        ClientError: the output has no positions on a grid.
    """
    tensor = first_tensor(output)
    if tensor is None or not 2 <= tensor.ndim <= 4:
        found = "no tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise ClientError(f"output with {found}: the server's detector needs maps, of 2 to 4 dimensions")
    if tensor.ndim == 2:
        grid = tensor[:, :, None, None]
    elif tensor.ndim == 3:
        grid = _from_tokens(tensor)
    else:
        last = is_channels_last(tuple(tensor.shape)) if channels_last is None else channels_last
        grid = tensor.permute(0, 3, 1, 2) if last else tensor
    wanted = (min(size[0], grid.shape[2]), min(size[1], grid.shape[3]))
    grid = grid.to(torch.float32)
    if wanted != tuple(grid.shape[2:]):
        grid = functional.adaptive_avg_pool2d(grid, wanted)
    infinite = torch.isinf(grid)
    return torch.where(infinite, grid, grid.clamp(-_LARGEST, _LARGEST)).to(torch.float16).contiguous()


def _from_tokens(tokens: Tensor) -> Tensor:
    """``[N, T, C]`` of a vision transformer to ``[N, C, s, s]``; a class token in front is left out."""
    count = tokens.shape[1]
    for skipped in (1, 0):
        side = isqrt(count - skipped)
        if side > 0 and side * side == count - skipped:
            return tokens[:, skipped:].transpose(1, 2).unflatten(2, (side, side))
    raise ClientError(
        f"output with {count} tokens: the server's detector needs maps, and neither {count} nor {count - 1} tokens "
        "make a square; leave the layer out, or start the server with a detector for pooled values"
    )
