"""Placing units at the weighted mean of their words' places: same input, same place, whatever the batch."""

from __future__ import annotations

from torch import Tensor

from cm_server.core.embedding import weighted_means


def place_units(similarity: Tensor, places: Tensor, temperature: float) -> Tensor:
    """Where units stand on the frozen map of words.

    Args:
        similarity: ``[M, K]``.
        places: the words' places ``[K, 2]``.
        temperature: the map's own T (see :func:`map_temperature`): at d_anchor's T every unit is a mixture of
            hundreds of words and would stand in the middle.

    Returns:
        ``[M, 2]``, inside the convex hull of the words.
    """
    return weighted_means(similarity, places.to(similarity), temperature)


def map_temperature(curve: tuple[tuple[float, float], ...], concepts: int, share: float = 0.1) -> float:
    """T of the map: units that fire at random spread over a tenth of the words, so they stay in the middle.

    Args:
        curve: pairs (T, effective number of words of a unit by chance), rising T.
        concepts: K.
        share: of K.
    """
    return min(curve, key=lambda point: abs(point[1] - share * concepts))[0]
