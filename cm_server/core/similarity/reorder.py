"""rank_reorder (CLIP-Dissect): how well a concept's scores put a unit's top images into the unit's own order."""

from __future__ import annotations

import torch
from torch import Tensor

from cm_server.core.similarity.units import Similarity, top_images

_TOP_SHARE = 0.05
_POWER = 3
_SCALE = 0.5
_PERMUTATIONS = 5
_LOWEST_MEAN = 1e-6
"""The error is divided by the root of the concept's mean score; at or below this the concept is out of the question."""
_BLOCK = 2**21


def rank_reorder(image_text: Tensor, activations: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Minus the error of re-ordering a unit's top 5 % of images by a concept's score.

    The unit's top activations, given in the order of the concept's scores, differ from themselves by ``mean |Δ|³``;
    that error is divided by the error of random orders (mean of five) and by the root of the concept's mean score.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.
        generator: draws the random orders, the same ones for all units (CPU); None: seed 0.

    Returns:
        ``[M, K]``, at most 0; a unit whose top activations are all equal gives 0 for every concept.
    """
    return prepare_rank_reorder(image_text, generator)(activations)


def prepare_rank_reorder(image_text: Tensor, generator: torch.Generator | None = None) -> Similarity:
    """:func:`rank_reorder` on one probe set, P ``[N, K]``: the random orders are drawn once."""
    kept = max(1, int(_TOP_SHARE * len(image_text)))
    generator = generator or torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(kept, generator=generator) for _ in range(_PERMUTATIONS)])

    def apply(activations: Tensor) -> Tensor:
        values, images = top_images(activations, kept)
        values = _scaled(values)
        chance = (values[None] - values[orders.to(values.device)]).abs().pow_(_POWER).mean(dim=(0, 1))
        found = image_text.new_empty(activations.shape[1], image_text.shape[1])
        width = max(1, _BLOCK // kept)
        for unit in range(activations.shape[1]):
            columns = zip(image_text.split(width, dim=1), found[unit].split(width), strict=True)
            for scores, target in columns:
                target.copy_(_error(scores[images[:, unit]], values[:, unit], chance[unit]))
        return found.neg_()

    return apply


def _scaled(values: Tensor) -> Tensor:
    """Both errors are of third degree, so the scale cancels; without it cubes leave fp32's range."""
    spread = values[0] - values[-1]
    return (values - values[-1]) / torch.where(spread > 0, spread, 1.0)


def _error(scores: Tensor, values: Tensor, chance: Tensor) -> Tensor:
    """Of one unit: scores of its top images ``[kept, K]``, their activations ``[kept]`` falling, result ``[K]``."""
    order = scores.argsort(dim=0, stable=True)
    error = (values[order] - values.flip(0)[:, None]).abs_().pow_(_POWER).mean(dim=0)
    typical = scores.mean(dim=0).clamp_min(_LOWEST_MEAN).pow_(_SCALE)
    return error / chance.clamp_min(torch.finfo(chance.dtype).tiny) / typical
