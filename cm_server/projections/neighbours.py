"""Placing units as UMAP places new points, without its random walk: same input, same place, whatever the batch.

UMAP (McInnes et al. 2018) puts a new point at the mean of its nearest points' places, weighted by fuzzy membership,
and then moves it in a stochastic descent that depends on all points given together: a similarity that changes by 0.002
moves one unit in twenty across 40 % of the map. Only the first, deterministic half is done here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cm_server.index import VectorIndex

NEIGHBOURS = 15
_HALVINGS = 48
_FURTHEST = 1e4


def place_among_neighbours(units: Tensor, words: VectorIndex, places: Tensor) -> Tensor:
    """Where units stand among their nearest words.

    Args:
        units: ``[M, D]`` in text space; need not be of unit length.
        words: cosine index over the words.
        places: the words' places ``[K, 2]``.

    Returns:
        ``[M, 2]``, inside the convex hull of the words.
    """
    cosine, found = words.search(torch.nn.functional.normalize(units, dim=1), NEIGHBOURS)
    weights = fuzzy_membership(1 - torch.from_numpy(cosine).double())
    near = places.double().cpu()[torch.from_numpy(found)]
    return ((weights.unsqueeze(2) * near).sum(1) / weights.sum(1, keepdim=True)).to(units)


def fuzzy_membership(distances: Tensor) -> Tensor:
    """UMAP's membership strengths of neighbours: ``exp(-(d - rho) / sigma)`` with rho the nearest one's distance.

    Args:
        distances: ``[M, n]``, ascending.

    Returns:
        ``[M, n]`` in (0, 1], the first is 1; sigma is such that they sum to log2(n) (all 1 where every distance is
        the same).
    """
    beyond = distances - distances[:, :1]
    wanted = math.log2(max(2, distances.shape[1]))
    low = torch.zeros(len(distances), 1, dtype=distances.dtype)
    high = torch.full_like(low, _FURTHEST)
    for _ in range(_HALVINGS):
        sigma = (low + high) / 2
        too_much = torch.exp(-beyond / sigma).sum(1, keepdim=True) > wanted
        low, high = torch.where(too_much, low, sigma), torch.where(too_much, sigma, high)
    return torch.exp(-beyond / high)
