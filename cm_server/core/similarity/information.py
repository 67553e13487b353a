"""Pointwise mutual information between a unit's top images and a concept (CLIP-Dissect): wpmi and soft_wpmi."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cm_server.core.similarity.units import top_images

WPMI_IMAGES = 28
SOFT_WPMI_IMAGES = 100
_WPMI_SCALE, _WPMI_PRIOR = 2.0, 0.6
_SOFT_WPMI_SCALE = 10.0
_FIRST, _SPREAD = 0.998, 0.028
_LOG_FLOOR = 1e-7
_PER_LOG = 10
"""Factors multiplied before one logarithm: each lies in [1, 500], so ten stay below 1e27, far within fp32."""
_CACHE_FLOATS = 2**17
"""Similarities that are worked on at once on a CPU: half a megabyte stays in its cache."""
_DEVICE_FLOATS = 2**26
_COLUMNS = 2**22


@dataclass(frozen=True)
class Informed:
    """wpmi or soft_wpmi on one probe set: a `Similarity`, and the same by blocks of units for layers too large for it.

    Attributes:
        table: what is looked up for each image, ``[N, K]``.
        images: how many of a unit's top images count.
        prior: weight of what all units share.
        likelihood: table and top images ``[kept, M]`` to L ``[M, K]``.
    """

    table: Tensor
    images: int
    prior: float
    likelihood: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, activations: Tensor) -> Tensor:
        """Activations ``[N, M]`` to similarity ``[M, K]``."""
        return less_common(self.likelihood(self.table, top_images(activations, self.images)[1]), self.prior)

    def in_blocks(self, activations: Tensor, size: int) -> Iterator[Tensor]:
        """The rows of :meth:`__call__`, ``size`` units at a time: twice the work, and no matrix ``[M, K]``."""
        blocks = top_images(activations, self.images)[1].split(size, dim=1)
        shared = self.table.new_full((self.table.shape[1],), -torch.inf)
        for top in blocks:
            shared = torch.logaddexp(shared, torch.logsumexp(self.likelihood(self.table, top), dim=0))
        shared -= math.log(activations.shape[1])
        for top in blocks:
            yield self.likelihood(self.table, top) - self.prior * shared


def prepare_wpmi(image_text: Tensor) -> Informed:
    """:func:`wpmi` on one probe set, P ``[N, K]``: the logarithms are taken once."""
    logarithm = torch.softmax(_WPMI_SCALE * image_text, dim=1).add_(_LOG_FLOOR).log_()
    return Informed(logarithm, WPMI_IMAGES, _WPMI_PRIOR, _wpmi_likelihood)


def _wpmi_likelihood(logarithm: Tensor, top: Tensor) -> Tensor:
    return functional.embedding_bag(top.T.contiguous(), logarithm, mode="sum")


def wpmi(image_text: Tensor, activations: Tensor) -> Tensor:
    """Weighted pointwise mutual information over a unit's top 28 images (all of them if there are fewer).

    S = softmax over concepts of 2 P, ``L = Σ ln(S + 1e-7)``, ``sim = L - 0.6 (logsumexp over units of L - ln M)``.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``, live units only: the set of units is part of the formula.

    Returns:
        ``[M, K]``, of no fixed range.
    """
    return prepare_wpmi(image_text)(activations)


def prepare_soft_wpmi(image_text: Tensor) -> Informed:
    """:func:`soft_wpmi` on one probe set, P ``[N, K]``."""
    return Informed(concepts_given_images(image_text), SOFT_WPMI_IMAGES, 1.0, soft_wpmi_likelihood)


def concepts_given_images(image_text: Tensor) -> Tensor:
    """S of soft_wpmi: softmax over concepts of 10 P, ``[N, K]``."""
    return torch.softmax(_SOFT_WPMI_SCALE * image_text, dim=1)


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
    return prepare_soft_wpmi(image_text)(activations)


def soft_wpmi_of_top(concept_given_image: Tensor, top: Tensor) -> Tensor:
    """soft_wpmi of units given by their top images alone.

    Args:
        concept_given_image: S ``[N, K]``.
        top: image numbers ``[kept, M]``, best first.

    Returns:
        ``[M, K]``.
    """
    return less_common(soft_wpmi_likelihood(concept_given_image, top), 1.0)


def soft_wpmi_likelihood(concept_given_image: Tensor, top: Tensor) -> Tensor:
    """L of soft_wpmi.

    ``ln(1 + p(S-1) + 1e-7) = ln(c) + ln(1 + S p/c)`` with ``c = 1 - p + 1e-7``: the first part is the same for all, and
    in the second ten factors are multiplied before one logarithm.

    Args:
        concept_given_image: S ``[N, K]``.
        top: image numbers ``[kept, M]``, best first.

    Returns:
        ``[M, K]``.
    """
    kept, units = top.shape
    words = concept_given_image.shape[1]
    members = [_FIRST - rank / SOFT_WPMI_IMAGES * _SPREAD for rank in range(kept)]
    rest = [1 - member + _LOG_FLOOR for member in members]
    ratios = [m / c for m, c in zip(members, rest, strict=True)]
    likelihood = concept_given_image.new_full((units, words), sum(math.log(c) for c in rest))
    size = max(1, _room(concept_given_image) // words)
    for images, target in zip(top.split(size, dim=1), likelihood.split(size), strict=True):
        _add_logarithms(concept_given_image, images, ratios, target)
    return likelihood


def _add_logarithms(table: Tensor, images: Tensor, ratios: list[float], out: Tensor) -> None:
    """Adds Σ over ranks of ln(1 + S·ratio): table ``[N, K]``, images ``[kept, m]``, ratios per rank, out ``[m, K]``."""
    for start in range(0, len(ratios), _PER_LOG):
        product = torch.ones_like(out)
        for rank in range(start, min(start + _PER_LOG, len(ratios))):
            # One pass: product · (1 + ratio · S).
            product.addcmul_(product, table[images[rank]], value=ratios[rank])
        out += product.log_()


def _room(values: Tensor) -> int:
    return _CACHE_FLOATS if values.device.type == "cpu" else _DEVICE_FLOATS


def less_common(likelihood: Tensor, weight: float) -> Tensor:
    """L minus what all units share, ``weight (logsumexp over units of L - ln M)``; in place, by blocks of concepts."""
    units = len(likelihood)
    for block in likelihood.split(max(1, _COLUMNS // max(1, units)), dim=1):
        block -= weight * (torch.logsumexp(block, dim=0) - math.log(units))
    return likelihood
