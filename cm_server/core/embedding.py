"""Units in text space: the paper's Eq. 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEGLIGIBLE_WEIGHT = 1e-12
"""Smaller weights are set to zero: subnormal numbers slow the product fifty times and change nothing."""
_LEAST = -60.0
"""Exponents are held here, where e^x is nothing beside a largest of 1 and far from being subnormal."""
_CACHE_FLOATS = 2**18
"""Similarities that are worked on at once on a CPU: what is made of them stays in its cache."""


def concept_weights(similarity: Tensor, temperature: float) -> Tensor:
    """λ of Eq. 1: softmax over concepts of similarity / T.

    Args:
        similarity: ``[M, K]``.
        temperature: T > 0.

    Returns:
        ``[M, K]``, rows summing to 1 up to `NEGLIGIBLE_WEIGHT`.

    Raises:
        ValueError: T is not positive.
    """
    weights = torch.softmax(_exponents(similarity, temperature), dim=1)
    return torch.threshold_(weights, NEGLIGIBLE_WEIGHT, 0.0)


def neuron_embeddings(similarity: Tensor, text: Tensor, temperature: float) -> Tensor:
    """u of Eq. 1: each unit's weighted mean of the word embeddings; *not* normalised again.

    Args:
        similarity: ``[M, K]``.
        text: ``[K, D]``, unit rows.
        temperature: T > 0; small T gives the best word itself, large T the mean of all words.

    Returns:
        ``[M, D]``, norms at most 1.
    """
    return weighted_means(similarity, text, temperature)


def weighted_means(similarity: Tensor, points: Tensor, temperature: float) -> Tensor:
    """Each unit's mean of some points by λ of Eq. 1, without the matrix of the weights.

    Args:
        similarity: ``[M, K]``.
        points: one for each concept ``[K, D]``.
        temperature: T > 0.

    Returns:
        ``[M, D]``.

    Raises:
        ValueError: T is not positive.
    """
    found = [_sums(block, points, temperature)[0] for block in _blocks(similarity)]
    return torch.cat(found) if found else similarity.new_empty(0, points.shape[1])


def embeddings_and_words(similarity: Tensor, text: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """:func:`neuron_embeddings` and the :func:`effective_words` of the weights, in one pass over the similarities.

    Args:
        similarity: ``[M, K]``, M > 0.
        text: ``[K, D]``, unit rows.
        temperature: T > 0.

    Returns:
        u ``[M, D]`` and ``[M]`` in [1, K].

    Raises:
        ValueError: T is not positive.

    Example:
        >>> u, words = embeddings_and_words(torch.zeros(1, 2), torch.eye(2), 0.1)
        >>> u.tolist(), words.tolist()
        ([[0.5, 0.5]], [2.0])
    """
    units, words = [], []
    for block in _blocks(similarity):
        mean, exponents, parts, total = _sums(block, text, temperature)
        # -Σ λ ln λ with λ = e^x / Σ e^x: one logarithm a unit.
        total, within = total.double(), exponents.mul_(parts).sum(dim=1).double()
        words.append((total.log() - within / total).exp().to(similarity.dtype))
        units.append(mean)
    return torch.cat(units), torch.cat(words)


def _sums(similarity: Tensor, points: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted means of the points ``[m, D]``, x and e^x ``[m, K]`` of the softmax, and Σ e^x ``[m]``."""
    exponents = _exponents(similarity, temperature)
    parts = exponents.exp()
    total = parts.sum(dim=1)
    return parts @ points / total[:, None], exponents, parts, total


def _exponents(similarity: Tensor, temperature: float) -> Tensor:
    """Similarity / T less each unit's highest, none below `_LEAST`."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0")
    highest = similarity.amax(dim=1, keepdim=True) / temperature
    return torch.add(-highest, similarity, alpha=1 / temperature).clamp_(min=_LEAST)


def _blocks(similarity: Tensor) -> Sequence[Tensor]:
    rows = _CACHE_FLOATS if similarity.device.type == "cpu" else similarity.numel()
    return similarity.split(max(1, rows // max(1, similarity.shape[1]))) if len(similarity) else ()


def effective_words(weights: Tensor) -> Tensor:
    """exp(entropy) of each unit's weights: over how many words it is spread.

    Args:
        weights: ``[M, K]``, rows summing to 1.

    Returns:
        ``[M]`` in [1, K].

    Example:
        >>> effective_words(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
        [2.0, 1.0]
    """
    return torch.special.entr(weights).sum(dim=1).exp()
