"""Units in text space: the paper's Eq. 1."""

from __future__ import annotations

import torch
from torch import Tensor

NEGLIGIBLE_WEIGHT = 1e-12
"""Smaller weights are set to zero: subnormal numbers slow the product fifty times and change nothing."""


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
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0")
    weights = torch.softmax(similarity / temperature, dim=1)
    return torch.nn.functional.threshold(weights, NEGLIGIBLE_WEIGHT, 0.0)


def neuron_embeddings(similarity: Tensor, text: Tensor, temperature: float) -> Tensor:
    """u of Eq. 1: each unit's weighted mean of the word embeddings; *not* normalised again.

    Args:
        similarity: ``[M, K]``.
        text: ``[K, D]``, unit rows.
        temperature: T > 0; small T gives the best word itself, large T the mean of all words.

    Returns:
        ``[M, D]``, norms at most 1.
    """
    return concept_weights(similarity, temperature) @ text


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
