"""What all similarities share: which units say anything, and which images drive a unit most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Similarity = Callable[[Tensor], Tensor]
"""Activations ``[N, M]`` to similarity ``[M, K]``, on one probe set."""

CONSTANT_TOLERANCE = 1e-6
"""A unit whose range is below this share of its largest magnitude does not vary in fp32."""


def live_units(activations: Tensor) -> Tensor:
    """Which units carry information: finite everywhere and not constant.

    Args:
        activations: ``[N, M]``.

    Returns:
        bool ``[M]``.

    Example:
        >>> live_units(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])).tolist()
        [False, False, True]
    """
    low, high = activations.amin(dim=0), activations.amax(dim=0)
    scale = torch.maximum(low.abs(), high.abs())
    return torch.isfinite(low) & torch.isfinite(high) & (high - low > CONSTANT_TOLERANCE * scale)


def top_images(activations: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each unit's highest activations; of equal ones the image with the lower number comes first.

    Args:
        activations: ``[N, M]``.
        count: how many; capped at N.

    Returns:
        activations and image numbers (int64), both ``[count, M]``, best first.

    Example:
        >>> top_images(torch.tensor([[1.0], [3.0], [3.0], [1.0]]), 3)[1].T.tolist()
        [[1, 2, 0]]
    """
    kept = min(count, len(activations))
    # One more than asked for shows where equal ones were left out; units in rows are searched five times as fast.
    values, found = (of.T for of in activations.T.contiguous().topk(min(kept + 1, len(activations)), dim=1))
    if len(values) > kept:
        crowded = values[kept] == values[kept - 1]
        values, found = values[:kept], found[:kept]
        if crowded.any():
            found = _lowest_of_the_last(activations, values, found, crowded.nonzero()[:, 0])
    return ordered(activations.gather(0, found), found)


def ordered(values: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts each column by falling value, then by rising image number; both ``[count, M]``."""
    images, first = images.sort(dim=0)
    values, second = values.gather(0, first).sort(dim=0, descending=True, stable=True)
    return values, images.gather(0, second)


def _lowest_of_the_last(activations: Tensor, values: Tensor, found: Tensor, crowded: Tensor) -> Tensor:
    """Where more images share the smallest chosen value than fit, `topk` takes any of them: take the first instead."""
    last = values[-1, crowded]
    level = activations[:, crowded] == last
    chosen = (values[:, crowded] == last).sum(dim=0)
    number = torch.arange(len(activations), device=activations.device)[:, None]
    kept = len(values)
    ties = torch.where(level, number, len(activations)).topk(kept, dim=0, largest=False, sorted=True).values
    place = torch.arange(kept, device=activations.device)[:, None] - (kept - chosen)
    found = found.clone()
    found[:, crowded] = torch.where(place < 0, found[:, crowded], ties.gather(0, place.clamp_min(0)))
    return found
