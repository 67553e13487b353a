"""On which one number of a unit's values its luck depends, and columns that have every such number.

What a unit reaches on shuffled images depends on its values alone: with cosines on how much rests on few images, with
rankings on how many images it fires for at all (the others are tied). Detectors name their `NullModel`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Profile = Callable[[Tensor], Tensor]
"""Activations ``[N, M]`` of live units to one number per unit ``[M]``."""

_FIRING = 6
"""Numbers of firing images: all ranks are alike from 100 on, so few points tell the curve."""
_HAIR = 1e-3


@dataclass(frozen=True)
class NullModel:
    """What a detector's null depends on.

    Attributes:
        profile: the unit's number.
        sees: ``values``; ``top``, only the highest activations; or ``ranks``, only their order, so that columns
            differ by their ties alone.
        compares_units: a unit's similarity depends on the other units of its layer, so the null does on M.
    """

    profile: Profile
    sees: str = "values"
    compares_units: bool = False


def firing(activations: Tensor) -> Tensor:
    """ln of the number of images above the unit's lowest value: the rest is tied."""
    return (activations > activations.amin(dim=0)).sum(dim=0).double().log()


def mean_share(activations: Tensor) -> Tensor:
    """Cosine of the unit's column with a constant one, in [-1, 1]: what a cosine without centring owes to the mean."""
    scaled = activations / activations.abs().amax(dim=0)
    return scaled.sum(dim=0) / (len(scaled) ** 0.5 * scaled.norm(dim=0))


def concentration(activations: Tensor) -> Tensor:
    """How few images carry the centred column: ±(1 + ln √(N Σ b⁴)), |b| = 1; minus if the low side weighs more.

    1 where all images weigh the same, 1 + ln √N where one carries everything.
    """
    return _signed_concentration(activations - activations.mean(dim=0))


def cubed_concentration(activations: Tensor) -> Tensor:
    """:func:`concentration` of the centred column's cube."""
    centred = activations - activations.mean(dim=0)
    scaled = centred.div_(torch.maximum(centred.amax(dim=0), -centred.amin(dim=0)))
    return _signed_concentration(scaled.square().mul_(scaled))


def top_concentration(activations: Tensor) -> Tensor:
    """:func:`concentration`, not signed, of what the top 5 % of images have above the lowest of them, cubed."""
    top = activations.topk(max(1, len(activations) // 20), dim=0).values
    above = top - top[-1]
    scaled = (above / above[0].clamp_min(torch.finfo(above.dtype).tiny)) ** 3
    return _signed_concentration(scaled + torch.finfo(above.dtype).eps)


def _signed_concentration(direction: Tensor) -> Tensor:
    unit = direction / direction.square().sum(dim=0).sqrt_().clamp_min_(torch.finfo(direction.dtype).tiny)
    total = unit.square().square_().sum(dim=0)
    size = 1 + 0.5 * (len(unit) * total).clamp_min(1).log()
    high = unit.clamp_min_(0).square_().square_().sum(dim=0)
    return torch.where(high >= total / 2, size, -size)


def null_columns(model: NullModel, images: int) -> list[Tensor]:
    """Columns with many profiles: quantiles of distributions, nothing random.

    Returns:
        By kind, float64 ``[images, points]``.
    """
    z = torch.special.ndtri((torch.arange(images, dtype=torch.float64) + 0.5) / images)[:, None]
    if model.sees == "ranks":
        return [_spikes(z, _FIRING)]
    if model.sees == "top":
        return [_lognormal(z), _two_sided(z), _rectified(z)]
    kinds = [_lognormal(z), _two_sided(z), _spikes(z, 8), _rectified(z), _two_humps(z)]
    return kinds + [-kind for kind in kinds]


def _lognormal(z: Tensor) -> Tensor:
    return (z * z.new_tensor([0.02, 0.1, 0.2, 0.35, 0.6, 1.0, 2.0, 4.0])).exp()


def _two_sided(z: Tensor) -> Tensor:
    powers = z.new_tensor([0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0])
    return z.sign() * z.abs() ** powers * torch.where(z > 0, 1 + _HAIR, 1.0)


def _spikes(z: Tensor, points: int) -> Tensor:
    """A few almost equal values among zeros."""
    images = len(z)
    counts = torch.logspace(0, 1, points, base=max(1, images / 3), dtype=z.dtype).round()
    on = torch.arange(images)[:, None] >= images - counts
    return on * (1 + _HAIR * z)


def _two_humps(z: Tensor) -> Tensor:
    shares = z.new_tensor([0.45, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01])
    return z + 3 * (torch.arange(len(z))[:, None] >= (len(z) * (1 - shares)).floor())


def _rectified(z: Tensor) -> Tensor:
    shares = z.new_tensor([0.7, 0.5, 0.3, 0.15, 0.08, 0.04, 0.02, 0.01])
    start = (len(z) * (1 - shares)).floor().clamp(0, len(z) - 2).long()
    return (z - z[start, 0]).clamp_min(0)
