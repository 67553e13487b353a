"""Area under the ROC curve of a unit's activation against classes, exact with ties, and unions of classes (INVERT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_UNITS_AT_ONCE = 256


def average_ranks(values: Tensor) -> Tensor:
    """Ranks within each column, 1 to N, equal values sharing their mean rank.

    Args:
        values: ``[N, M]``, finite.

    Returns:
        float64 ``[N, M]``.

    Example:
        >>> average_ranks(torch.tensor([[3.0], [1.0], [3.0]])).squeeze(1).tolist()
        [2.5, 1.0, 2.5]
    """
    images = len(values)
    ordered, order = values.sort(dim=0)
    place = torch.arange(1, images + 1, device=values.device, dtype=torch.float64)[:, None].expand(values.shape)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    last = torch.ones_like(new)
    last[:-1] = new[1:]
    first_of_group = torch.where(new, place, 0.0).cummax(dim=0).values
    last_of_group = torch.where(last, place, float(images)).flip(0).cummin(dim=0).values.flip(0)
    return torch.empty_like(place.contiguous()).scatter_(0, order, (first_of_group + last_of_group) / 2)


def rank_sums(activations: Tensor, members: Tensor) -> Tensor:
    """Sum of the ranks of each class's images, per unit.

    Args:
        activations: ``[N, M]``, finite.
        members: ``[N, C]`` bool, which images belong to which class.

    Returns:
        float64 ``[M, C]``.
    """
    inside = members.to(activations.device, torch.float64)
    blocks = activations.split(_UNITS_AT_ONCE, dim=1)
    return torch.cat([average_ranks(block).T @ inside for block in blocks])


def auroc(activations: Tensor, members: Tensor) -> Tensor:
    """Probability that an image of the class drives the unit more than another image does, ties counting half.

    Args:
        activations: ``[N, M]``, finite.
        members: ``[N, C]`` bool.

    Returns:
        float32 ``[M, C]`` in [0, 1]; 0.5 for a class with no image or with all.
    """
    sizes = members.sum(dim=0).to(activations.device, torch.float64)
    return _from_sums(rank_sums(activations, members), sizes, len(activations)).float()


def _from_sums(sums: Tensor, sizes: Tensor, images: int) -> Tensor:
    """Mann and Whitney: (R - n(n+1)/2) / (n (N-n))."""
    pairs = sizes * (images - sizes)
    return torch.where(pairs > 0, (sums - sizes * (sizes + 1) / 2) / pairs.clamp_min(1), 0.5)


@dataclass(frozen=True)
class Union:
    """Some disjoint classes together, and how well the unit tells them from all others."""

    classes: tuple[int, ...]
    auroc: float


def best_unions(activations: Tensor, members: Tensor, length: int = 3, beam: int = 5) -> list[Union]:
    """For each unit the union of up to ``length`` classes with the highest AUROC, by beam search (Bykov et al. 2023).

    Rank sums of disjoint classes add up, so a union costs one addition. A longer union wins only where it is better.

    Args:
        activations: ``[N, M]``, finite.
        members: ``[N, C]`` bool, at most one class an image.
        length: most classes in a union.
        beam: unions kept at each length.
    """
    sums = rank_sums(activations, members).cpu()
    sizes = members.sum(dim=0).to(torch.float64).cpu()
    return [_best_union(row, sizes, len(activations), length, beam) for row in sums]


def _best_union(sums: Tensor, sizes: Tensor, images: int, length: int, beam: int) -> Union:
    alone = _from_sums(sums, sizes, images)
    kept = [((int(c),), sums[c], sizes[c]) for c in alone.topk(min(beam, len(alone))).indices]
    best = Union(kept[0][0], float(alone.max()))
    for _ in range(1, min(length, len(sums))):
        grown: dict[tuple[int, ...], tuple[float, Tensor, Tensor]] = {}
        for classes, total, size in kept:
            scores = _from_sums(total + sums, size + sizes, images)
            scores[list(classes)] = -1.0
            for c in scores.topk(min(beam, len(scores))).indices.tolist():
                if float(scores[c]) >= 0:
                    grown[tuple(sorted((*classes, c)))] = (float(scores[c]), total + sums[c], size + sizes[c])
        ranked = sorted(grown.items(), key=lambda item: (-item[1][0], item[0]))[:beam]
        kept = [(classes, total, size) for classes, (_, total, size) in ranked]
        if ranked and ranked[0][1][0] > best.auroc:
            best = Union(ranked[0][0], ranked[0][1][0])
    return best
