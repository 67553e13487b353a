"""Network Dissection (Bau et al. 2017): how well the pixels that drive a unit agree with the pixels of each label.

A unit's map is upsampled bilinearly to the masks' size and cut at the unit's own threshold, its 0.995 quantile over all
positions of all probe images:

    IoU[u, l] = both / (unit pixels in images that are labelled in l's category + pixels of l - both)

Half of a percent of the positions lies above the threshold, and bilinear interpolation never exceeds its largest input:
most pairs of image and unit are done with by one comparison, and the others cost one small matrix product per image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cm_server.core.masks import LabelMasks

QUANTILE = 0.995
INTERPRETABLE = 0.04
"""The paper's threshold on a unit's best IoU."""
_ROUNDING = 1e-6
_UNITS_AT_ONCE = 64
_PIXELS_AT_ONCE = 2**24
"""Pixels upsampled at one time: 64 MiB."""


def activation_thresholds(maps: Tensor, quantile: float = QUANTILE) -> Tensor:
    """Each unit's quantile over all positions of all images, interpolated as :func:`numpy.quantile` does.

    Args:
        maps: ``[N, M, h, w]``, finite.
        quantile: in (0, 1).

    Returns:
        float32 ``[M]``.
    """
    values = maps.shape[0] * maps.shape[2] * maps.shape[3]
    place = quantile * (values - 1)
    below = int(place)
    found = []
    for block in maps.split(_UNITS_AT_ONCE, dim=1):
        flat = block.float().transpose(0, 1).flatten(1)
        top = flat.topk(values - below, dim=1).values
        low, high = top[:, -1], top[:, max(0, top.shape[1] - 2)]
        found.append(low + (high - low) * (place - below))
    return torch.cat(found)


@lru_cache(maxsize=8)
def _weights(length: int, size: int) -> Tensor:
    """Linear interpolation from ``length`` places to ``size``, half-pixel centres, as a matrix ``[size, length]``."""
    return functional.interpolate(torch.eye(length)[None], size=size, mode="linear", align_corners=False)[0].T


def unit_masks(maps: Tensor, thresholds: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels that drive each unit on one image.

    Args:
        maps: ``[m, h, w]``.
        thresholds: ``[m]``.
        size: H and W of the masks.

    Returns:
        float32 ``[m, H·W]``, 1 where the upsampled map is above the threshold, else 0.
    """
    rows, columns = _weights(maps.shape[1], size[0]).to(maps.device), _weights(maps.shape[2], size[1]).to(maps.device)
    large = (rows @ maps.float() @ columns.T).flatten(1)
    # On a plateau at the threshold itself interpolation rounds up here and down there: equal is not above.
    above = thresholds + thresholds.abs() * _ROUNDING
    return torch.gt(large, above[:, None], out=torch.empty_like(large))


def label_iou(
    maps: Tensor, masks: LabelMasks, thresholds: Tensor | None = None, order: np.ndarray | None = None
) -> Tensor:
    """IoU of every unit with every label.

    Args:
        maps: ``[N, M, h, w]``, finite; float16 is fine, one image at a time becomes float32.
        masks: the same N images' labels.
        thresholds: ``[M]``; by default :func:`activation_thresholds`.
        order: ``[N]`` permutation: map n is held against the labels of image ``order[n]``, which makes units that
            know nothing of the images.

    Returns:
        float32 ``[M, K]`` in [0, 1]; 0 where neither has a pixel.

    Raises:
        ValueError: the number of images differs.
    """
    if len(maps) != len(masks):
        raise ValueError(f"maps of {len(maps)} images and masks of {len(masks)}: they must be of the same images")
    thresholds = activation_thresholds(maps) if thresholds is None else thresholds
    both = torch.zeros(maps.shape[1], len(masks.category), dtype=torch.float64, device=maps.device)
    area = torch.zeros(maps.shape[1], masks.annotated.shape[1], dtype=torch.float64, device=maps.device)
    annotated = torch.from_numpy(masks.annotated.astype(np.float64)).to(maps.device)
    for image, other in enumerate(range(len(masks)) if order is None else order.tolist()):
        driven = (maps[image].flatten(1).amax(dim=1) > thresholds).nonzero().squeeze(1)
        if not len(driven):
            continue
        labels, pixels = _on(masks, other, maps.device)
        for units in driven.split(max(1, _PIXELS_AT_ONCE // masks.pixels)):
            found = unit_masks(maps[image, units], thresholds[units], masks.size)
            both[units[:, None], labels] += (found @ pixels.T).double()
            area[units] += found.sum(dim=1).double()[:, None] * annotated[other]
    return iou_from_counts(both, area, masks)


def label_overlap(masks: LabelMasks, order: np.ndarray | None = None) -> Tensor:
    """IoU of the labels with each other, as if each label were a unit that fires on exactly its pixels.

    Args:
        masks: N images' labels.
        order: see :func:`label_iou`.

    Returns:
        float32 ``[K, K]``; 1 on the diagonal without ``order`` for labels that only occur where their category does.
    """
    both = torch.zeros(len(masks.category), len(masks.category), dtype=torch.float64)
    area = torch.zeros(len(masks.category), masks.annotated.shape[1], dtype=torch.float64)
    annotated = torch.from_numpy(masks.annotated.astype(np.float64))
    for image, other in enumerate(range(len(masks)) if order is None else order.tolist()):
        units, found = _on(masks, image, both.device)
        labels, pixels = _on(masks, other, both.device)
        both[units[:, None], labels] += (found @ pixels.T).double()
        area[units] += found.sum(dim=1).double()[:, None] * annotated[other]
    return iou_from_counts(both, area, masks)


def iou_from_counts(both: Tensor, area: Tensor, masks: LabelMasks) -> Tensor:
    """IoU from pixel counts.

    Args:
        both: ``[M, K]`` float64, pixels that unit and label share.
        area: ``[M, C]`` float64, unit pixels in images that are labelled in each category.
        masks: for the labels' categories and pixels.

    Returns:
        float32 ``[M, K]``.
    """
    pixels = torch.from_numpy(masks.label_pixels).to(both.device)
    union = area[:, torch.from_numpy(masks.category).to(both.device)] + pixels - both
    return torch.where(union > 0, both / union.clamp_min(1), 0.0).float()


def _on(masks: LabelMasks, image: int, device: torch.device) -> tuple[Tensor, Tensor]:
    labels, pixels = masks.of(image)
    return torch.from_numpy(labels).to(device), torch.from_numpy(pixels).to(device).float()
