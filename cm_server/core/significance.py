"""How high the best similarity of a unit comes by chance alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

NULL_UNITS = 512
"""At least this many image-independent units are drawn."""
NULL_QUANTILE = 0.95


def permuted_units(activations: Tensor, units: int, generator: torch.Generator) -> Tensor:
    """Units with the same values as the given ones, on shuffled images: they know nothing of the images.

    Args:
        activations: ``[N, M]``, live units.
        units: how many to draw (columns are used again, with other shuffles, where M is smaller).
        generator: source of randomness (CPU).

    Returns:
        ``[N, units]``.
    """
    order = torch.rand(len(activations), units, generator=generator).argsort(dim=0)
    return _shuffled(activations, order)


def _shuffled(activations: Tensor, order: Tensor) -> Tensor:
    column = torch.arange(order.shape[1], device=activations.device) % activations.shape[1]
    return activations[:, column].gather(0, order.to(activations.device))


@lru_cache(maxsize=4)
def _fixed_order(images: int, units: int, seed: int) -> Tensor:
    """The null's shuffles are the same for every snapshot; sorting them again would take half of the analysis."""
    return torch.rand(images, units, generator=torch.Generator().manual_seed(seed)).argsort(dim=0)


def null_threshold(similarity: Callable[[Tensor], Tensor], activations: Tensor, seed: int = 0) -> float:
    """The 95th percentile of the best similarity of units that are independent of the images.

    The best of K concepts lies far out: on 1,203 words its mean is 0.36 at N = 256 and 0.04 at N = 10,000, so a
    fixed threshold calls everything interpretable on a small probe set (METHODS: significance).

    Args:
        similarity: activations ``[N, units]`` to ``[units, K]``, the detector on this probe set.
        activations: ``[N, M]``, live units.
        seed: fixes the shuffles: the same input gives the same threshold.
    """
    images, units = activations.shape
    order = _fixed_order(images, units * -(-NULL_UNITS // units), seed)
    # Layer by layer of the same width: soft_wpmi compares units with each other, so its values grow with their number.
    best = torch.cat([similarity(layer).amax(dim=1) for layer in _shuffled(activations, order).split(units, dim=1)])
    return float(torch.quantile(best.double(), NULL_QUANTILE))
