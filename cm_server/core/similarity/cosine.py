"""Cosines between a unit's column and a concept's: plain, centred (Pearson), centred and cubed (Label-free CBM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cm_server.core.similarity.units import CONSTANT_TOLERANCE, Similarity

_BLOCK = 2**22
"""Floats that are worked on at once while concepts are prepared: no second copy of P."""
_CACHE_FLOATS = 2**17
"""… and while columns are normalised on a CPU: 512 KB."""


@dataclass(frozen=True)
class _Columns:
    """Columns divided by their largest magnitude, so that neither cubes nor squares leave fp32's range.

    Attributes:
        values: ``[N, C]``, magnitudes at most 1.
        norm: ``[C]`` Euclidean norm of ``values``.
        scale: ``[C]`` what they were divided by, before cubing.
        usable: ``[C]`` whether the column is finite and has a direction.
    """

    values: Tensor
    norm: Tensor
    scale: Tensor
    usable: Tensor

    def factor(self, min_norm: float, power: int) -> Tensor:
        """1 / max(norm before scaling, min_norm), in terms of the scaled values; 0 where there is no direction."""
        floor = min_norm / self.scale**power if min_norm > 0 else torch.zeros_like(self.norm)
        return torch.where(self.usable, 1 / torch.maximum(self.norm, floor), 0.0)


def _columns(values: Tensor, centred: bool, cubed: bool) -> _Columns:
    middle = values.mean(dim=0) if centred else values.new_zeros(values.shape[1])
    scale = torch.maximum(values.amax(dim=0) - middle, middle - values.amin(dim=0))
    smallest = torch.finfo(values.dtype).tiny
    if centred:  # what rounding leaves of a constant column must not be blown up to full length
        smallest = (CONSTANT_TOLERANCE / 4 * values[0].abs()).clamp_min(smallest)
    usable = torch.isfinite(scale) & (scale > smallest)
    divisor = torch.where(usable, scale, 1.0)
    shape, squares = torch.empty_like(values), torch.zeros_like(middle)
    rows = max(1, (_CACHE_FLOATS if values.device.type == "cpu" else values.numel()) // max(1, values.shape[1]))
    # A few rows at a time stay in the cache through all of this: three times as fast as one step after the other.
    for source, target in zip(values.split(rows), shape.split(rows), strict=True):
        torch.sub(source, middle, out=target).div_(divisor)
        square = target.square()
        if cubed:
            target.mul_(square)
            torch.square(target, out=square)
        squares += square.sum(dim=0)
    return _Columns(shape, squares.sqrt_(), scale, usable)


def _concept_directions(image_text: Tensor, centred: bool, cubed: bool, min_norm: float) -> Tensor:
    """Columns of P as unit vectors ``[N, K]`` (shorter where ``min_norm`` says so)."""
    found = torch.empty_like(image_text)
    width = max(1, _BLOCK // max(1, len(image_text)))
    for source, target in zip(image_text.split(width, dim=1), found.split(width, dim=1), strict=True):
        columns = _columns(source, centred, cubed)
        factor = columns.factor(min_norm, 3 if cubed else 1)
        target.copy_(torch.where(columns.usable, columns.values * factor, 0.0))
    return found


def _prepare(image_text: Tensor, centred: bool, cubed: bool, min_norm: float = 0.0) -> Similarity:
    concepts = _concept_directions(image_text, centred, cubed, min_norm)

    def apply(activations: Tensor) -> Tensor:
        units = _columns(activations, centred, cubed)
        # Units are normalised after the product: K is mostly smaller than N.
        return _rows(units.values.T @ concepts, units, units.factor(min_norm, 3 if cubed else 1))

    return apply


def _rows(product: Tensor, units: _Columns, factor: Tensor) -> Tensor:
    product *= factor[:, None]
    return product if bool(units.usable.all()) else product.masked_fill_(~units.usable[:, None], 0.0)


def prepare_cos(image_text: Tensor) -> Similarity:
    """:func:`cos` on one probe set, P ``[N, K]``."""
    return _prepare(image_text, centred=False, cubed=False)


def prepare_pearson(image_text: Tensor) -> Similarity:
    """:func:`pearson` on one probe set, P ``[N, K]``."""
    return _prepare(image_text, centred=True, cubed=False)


def prepare_cos_cubed(image_text: Tensor, min_norm: float = 1e-3) -> Similarity:
    """:func:`cos_cubed` on one probe set, P ``[N, K]``."""
    return _prepare(image_text, centred=True, cubed=True, min_norm=min_norm)


def prepare_from_embeddings(image_embeddings: Tensor, text: Tensor, centred: bool = False) -> Similarity:
    """:func:`cos` (or, ``centred``, :func:`pearson`) through the embeddings: ``(AᵀI)Tᵀ`` never forms P.

    Work per unit falls from N·K to (N + K)·D: about twenty times less at N = 10,000, K = 20,000 and D = 512.

    Args:
        image_embeddings: I ``[N, D]``, unit rows.
        text: T ``[K, D]``, unit rows.
        centred: columns of A and P minus their mean.
    """
    images = image_embeddings - image_embeddings.mean(dim=0) if centred else image_embeddings
    # |P's column k|² = t_k (IᵀI) t_kᵀ; never below 0 but for rounding.
    lengths = ((text @ (images.T @ images)) * text).sum(dim=1).clamp_min(0).sqrt()
    usable = lengths > CONSTANT_TOLERANCE * len(images) ** 0.5
    words = (text / torch.where(usable, lengths, 1.0)[:, None] * usable[:, None]).T.contiguous()

    def apply(activations: Tensor) -> Tensor:
        units = _columns(activations, centred, cubed=False)
        return _rows(units.values.T @ images @ words, units, units.factor(0.0, 1))

    return apply


def cos(image_text: Tensor, activations: Tensor) -> Tensor:
    """Cosine of the columns, not centred (CLIP-Dissect's simplest). A unit of zeros gives 0, not NaN.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.

    Returns:
        ``[M, K]`` in [-1, 1].

    Example:
        >>> cos(torch.eye(2), torch.tensor([[3.0, 0.0], [4.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    return prepare_cos(image_text)(activations)


def cos_from_embeddings(image_embeddings: Tensor, text: Tensor, activations: Tensor) -> Tensor:
    """:func:`cos` where P = I Tᵀ is given by its factors, computed as (AᵀI)Tᵀ.

    Args:
        image_embeddings: I ``[N, D]``, unit rows.
        text: T ``[K, D]``, unit rows.
        activations: A ``[N, M]``.

    Returns:
        ``[M, K]`` in [-1, 1].
    """
    return prepare_from_embeddings(image_embeddings, text)(activations)


def pearson(image_text: Tensor, activations: Tensor) -> Tensor:
    """Pearson's correlation of the columns; 0 for a unit or a concept that does not vary.

    Args:
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``.

    Returns:
        ``[M, K]`` in [-1, 1].
    """
    return prepare_pearson(image_text)(activations)


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
    return prepare_cos_cubed(image_text, min_norm)(activations)
