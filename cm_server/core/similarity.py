"""How much each unit's activation agrees with each concept, over the probe images.

Every function takes ``image_text`` P ``[N, K]`` (cosine of image and word embeddings) and ``activations`` A ``[N, M]``
(pooled) and returns ``[M, K]``, higher is better, on the device of the input. They are column-wise pure: callers mask
units that never vary with :func:`live_units` first. Formulas: CLIP-Dissect (arXiv 2204.10965), Label-free CBM
(arXiv 2304.06129); reference values in ``tests/data/clip_dissect_small.npz``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONSTANT_TOLERANCE = 1e-6
"""A unit whose range is below this share of its largest magnitude does not vary in fp32."""

SOFT_WPMI_IMAGES = 100
_SOFT_WPMI_SCALE = 10.0
_SOFT_WPMI_FIRST, _SOFT_WPMI_SPREAD = 0.998, 0.028
_LOG_FLOOR = 1e-7
_PER_LOG = 10
"""Probabilities multiplied before one logarithm: ten are at least 0.002^10 = 1e-27, far above fp32's smallest."""


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


def cubed_directions(values: Tensor, min_norm: float) -> Tensor:
    """Columns minus their mean, cubed, divided by ``max(norm, min_norm)``; a zero column stays zero.

    Args:
        values: ``[N, C]``.
        min_norm: floor of the norm; 0 makes the result independent of scale.
    """
    cubed = (values - values.mean(dim=0)) ** 3
    norm = cubed.norm(dim=0)
    if min_norm > 0:
        return cubed / norm.clamp_min(min_norm)
    # Without a floor, what rounding leaves of a constant column would be blown up to full length.
    return torch.where(live_units(values), cubed / norm.clamp_min(torch.finfo(cubed.dtype).tiny), 0.0)


def cos_cubed(image_text: Tensor, activations: Tensor, min_norm: float = 1e-3) -> Tensor:
    """Cosine of the centred, cubed columns (Label-free CBM): the highest activations count most.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.
        min_norm: floor of the norms. 1e-3 is the reference's, and makes the result depend on scale for small N or
            small activations; 0 is free of scale, with zero columns giving 0.

    Returns:
        ``[M, K]`` in [-1, 1].
    """
    return cubed_directions(activations, min_norm).T @ cubed_directions(image_text, min_norm)


def soft_wpmi(image_text: Tensor, activations: Tensor) -> Tensor:
    """Soft weighted pointwise mutual information (CLIP-Dissect, its default).

    The top 100 images of a unit (all of them if there are fewer) are soft members of the unit's set, the first with
    0.998, falling by 0.028/100 per rank. ``sim = L - (logsumexp over units of L - ln M)``.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``, live units only: the set of units is part of the formula.

    Returns:
        ``[M, K]``, at most ln M; the mean over units of exp(sim) is 1.
    """
    images, units = activations.shape
    kept = min(SOFT_WPMI_IMAGES, images)
    concept_given_image = torch.softmax(_SOFT_WPMI_SCALE * image_text, dim=1)
    top = activations.topk(kept, dim=0).indices
    likelihood = image_text.new_zeros(units, image_text.shape[1])
    for start in range(0, kept, _PER_LOG):
        product = torch.ones_like(likelihood)
        for rank in range(start, min(start + _PER_LOG, kept)):
            member = _SOFT_WPMI_FIRST - rank / SOFT_WPMI_IMAGES * _SOFT_WPMI_SPREAD
            product *= (concept_given_image[top[rank]] * member).add_(1 - member + _LOG_FLOOR)
        likelihood += product.log_()
    return likelihood - (torch.logsumexp(likelihood, dim=0) - math.log(units))
