"""From whatever a module returns to one row per image. Pure; the shapes are METHODS.md's "Capture"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cm_client.errors import ClientError

POOLS = ("mean", "max")


def first_tensor(output: Any) -> Tensor | None:
    """The activation in a module's output: itself, ``last_hidden_state`` of a model output, else the first tensor.

    Args:
        output: a tensor, a tuple or list, a mapping or an object with ``last_hidden_state``.

    Returns:
        None where there is no tensor.
    """
    if isinstance(output, Tensor):
        return output
    hidden = output.get("last_hidden_state") if isinstance(output, Mapping) else None
    if hidden is None:
        hidden = getattr(output, "last_hidden_state", None)
    if isinstance(hidden, Tensor):
        return hidden
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a 4-D output looks like ``[N, H, W, C]``: its two middle sizes agree and the last differs.

    True for square feature maps of Swin and ConvNeXt blocks; wrong only for ``[N, C, H, W]`` with C = H and W ≠ H,
    which square images never give: say ``channels_last=False`` there.
    """
    return len(shape) == 4 and shape[1] == shape[2] and shape[3] != shape[2]


def spatial_size(shape: tuple[int, ...], channels_last: bool | None = None) -> tuple[int, int]:
    """Height and width of a 4-D output's shape."""
    last = is_channels_last(shape) if channels_last is None else channels_last
    return (shape[1], shape[2]) if last else (shape[2], shape[3])


def pool(output: Any, how: str = "mean", channels_last: bool | None = None, token: str = "first") -> Tensor:
    """One row per image.

    Args:
        output: what a module returned: ``[N, C, H, W]`` or ``[N, H, W, C]`` (mean or max over the positions),
            ``[N, T, C]`` (token 0, or the mean over tokens), ``[N, C]`` as it is; in tuples and mappings too.
        how: ``mean`` or ``max`` over positions.
        channels_last: layout of 4-D outputs; None looks at the shape (`is_channels_last`).
        token: ``first`` or ``mean``, of 3-D outputs.

    Returns:
        ``[N, C]``, same dtype and device.

    Raises:
        ClientError: no tensor of 2 to 4 dimensions, or an unknown way to pool.
    """
    tensor = first_tensor(output)
    if how not in POOLS or token not in ("first", "mean"):
        raise ClientError(f"pool {how!r}, token {token!r}: choose 'mean' or 'max', and 'first' or 'mean'")
    if tensor is None or not 2 <= tensor.ndim <= 4:
        found = "no tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise ClientError(f"output with {found}: 2 to 4 dimensions can be pooled")
    if tensor.ndim == 2:
        return tensor
    if tensor.ndim == 3:
        return tensor[:, 0] if token == "first" else tensor.mean(1)
    last = is_channels_last(tuple(tensor.shape)) if channels_last is None else channels_last
    over = (1, 2) if last else (2, 3)
    return tensor.mean(over) if how == "mean" else torch.amax(tensor, over)
