"""How high the best similarity of a unit comes by chance alone, and how firmly its label stands.

The best of K concepts lies far out: on 1,203 words its mean is 0.36 at N = 256 and 0.04 at N = 10,000, so a fixed
threshold calls everything interpretable on a small probe set (METHODS: significance). And it depends on the unit: one
that fires for four images of a thousand comes to 0.43 by chance, one whose values are Gaussian to 0.20, so one
threshold for a layer would call its sparse units interpretable whatever they do.

So the null is a *curve*: the 95th percentile of the best similarity on shuffled images over the unit's **profile**, the
one number of its values that decides how it does by chance (how much of it rests on few images). It is measured once
for a probe set, words and detector, from columns of five kinds and their mirror images, and then costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.core.profiles import NullModel, null_columns
from cm_server.core.similarity import Similarity

NULL_VERSION = 1
"""Part of cache keys: grows when the same input would give another curve."""
NULL_QUANTILE = 0.95
_EXACT_WIDTH, _WIDEST = 128, 1024
NULL_DRAWS = 299
"""Shuffles of each column, at least. The 285th of 299 is exceeded by a 300th draw with probability 15/300 = 5 %
exactly, however noisy the estimate: that is why it is not an interpolated percentile."""


@dataclass(frozen=True)
class NullCurve:
    """The null's 95th percentile over the profile, for columns of several kinds.

    Attributes:
        profiles: ``[kinds, points]`` rising in each row.
        thresholds: ``[kinds, points]``.
    """

    profiles: np.ndarray
    thresholds: np.ndarray

    def stacked(self) -> np.ndarray:
        """Both arrays as one, ``[2, kinds, points]``."""
        return np.stack([self.profiles, self.thresholds])

    def at(self, profiles: Tensor) -> Tensor:
        """Thresholds of units with these profiles ``[M]``: the highest of the kinds whose profiles reach so far.

        Kinds differ a little at the same profile; the highest errs on the safe side.
        """
        wanted = profiles.detach().double().cpu().numpy()
        low, high = self.profiles[:, :1], self.profiles[:, -1:]
        inside = (wanted >= low) & (wanted <= high)
        outermost = (wanted < low.min()) & (low == low.min()) | (wanted > high.max()) & (high == high.max())
        rows = [np.interp(wanted, x, y) for x, y in zip(self.profiles, self.thresholds, strict=True)]
        found = np.where(inside | outermost, np.stack(rows), -np.inf).max(axis=0)
        found = np.where(np.isfinite(found), found, np.stack(rows).max(axis=0))
        return torch.from_numpy(found).to(profiles.device, torch.float32)


def null_curve(similarity: Similarity, model: NullModel, images: int, units: int, device: str = "cpu") -> NullCurve:
    """Measures the null on one probe set.

    Args:
        similarity: activations ``[N, units]`` to ``[units, K]``, the detector on this probe set.
        model: what the detector says about its null.
        images: N.
        units: M; matters only to a detector that compares units with each other.
        device: where ``similarity`` wants its input.
    """
    width = units if model.compares_units else NULL_DRAWS
    generator = torch.Generator().manual_seed(0)
    layers = -(-NULL_DRAWS // width)
    orders = [torch.rand(images, width, generator=generator).argsort(dim=0).to(device) for _ in range(layers)]
    profiles, thresholds = [], []
    for columns in (kind.float().to(device) for kind in null_columns(model, images)):
        profiles.append(model.profile(columns).double().cpu().numpy())
        best = (torch.cat([similarity(column[order]).amax(dim=1) for order in orders]) for column in columns.unbind(1))
        thresholds.append(np.array([float(upper_level(draws)) for draws in best]))
    at, heights = np.stack(profiles), np.stack(thresholds)
    order = at.argsort(axis=1, kind="stable")
    at, heights = np.take_along_axis(at, order, 1), np.take_along_axis(heights, order, 1)
    same = at[:, :, None] == at[:, None, :]  # of columns with one profile the highest counts
    return NullCurve(at, np.where(same, heights[:, None, :], -np.inf).max(axis=2))


def null_widths(units: int) -> dict[int, float]:
    """Widths at which to measure the null of a detector that compares units, and how much each counts for M units.

    Up to 128 units the width itself: there soft_wpmi reaches its ceiling, ln M, by chance already, and a hair decides.
    Above, the two nearest of the widths 2^(j/2): live units come and go, the null need not be measured each time. Above
    1,024 it is drawn on from 256 and 1,024, in the logarithm of the width: it flattens, so that errs on the safe side.

    Example:
        >>> null_widths(100), null_widths(256), sorted(null_widths(300)), null_widths(4096)
        ({100: 1.0}, {256: 1.0}, [256, 362], {1024: 2.0, 256: -1.0})
    """
    if units <= _EXACT_WIDTH:
        return {units: 1.0}
    if units > _WIDEST:
        share = math.log(units / _WIDEST) / math.log(4)
        return {_WIDEST: 1 + share, _WIDEST // 4: -share}
    place = 2 * math.log2(units)
    low = round(2 ** (math.floor(place) / 2))
    high = round(2 ** ((math.floor(place) + 1) / 2))
    share = min(1.0, max(0.0, math.log(units / low) / math.log(high / low)))
    return {width: weight for width, weight in ((low, 1 - share), (high, share)) if weight > 0}


def upper_level(draws: Tensor) -> Tensor:
    """The smallest of the draws that one more draw exceeds with probability at most 5 %.

    Args:
        draws: ``[B]``, independent; B >= 19.

    Example:
        >>> float(upper_level(torch.arange(1.0, 20.0)))
        19.0
    """
    count = len(draws)
    rank = math.ceil(NULL_QUANTILE * (count + 1) - 1e-9)
    return draws.kthvalue(min(rank, count)).values


def label_stability(
    prepare: Callable[[Tensor], Similarity], image_text: Tensor, activations: Tensor, resamples: int, seed: int = 0
) -> Tensor:
    """How firmly each unit's label stands: the share of bootstrapped probe sets in which it is the same.

    Each resample draws N images with replacement, for units and concepts alike, and is a whole analysis: the detector
    is prepared anew.

    Args:
        prepare: P to similarity, the detector's own preparation.
        image_text: P ``[N, K]``.
        activations: A ``[N, M]``, live units.
        resamples: how many; 20 tell 0.9 from 0.6.
        seed: fixes the draws, so that a share changes only when the unit does.

    Returns:
        ``[M]`` in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    best = prepare(image_text)(activations).argmax(dim=1)
    same = torch.zeros(len(best), device=best.device)
    for _ in range(resamples):
        rows = torch.randint(len(image_text), (len(image_text),), generator=generator).to(image_text.device)
        same += prepare(image_text[rows])(activations[rows]).argmax(dim=1) == best
    return same / resamples


def permuted_units(activations: Tensor, units: int, generator: torch.Generator) -> Tensor:
    """Units with the same values as the given ones, on shuffled images: they know nothing of the images.

    Args:
        activations: ``[N, M]``, live units.
        units: how many to draw (columns are used again, with other shuffles, where M is smaller).
        generator: source of randomness (CPU).

    Returns:
        ``[N, units]``.
    """
    order = torch.rand(len(activations), units, generator=generator).argsort(dim=0)
    column = torch.arange(units, device=activations.device) % activations.shape[1]
    return activations[:, column].gather(0, order.to(activations.device))
