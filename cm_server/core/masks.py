"""Which pixels of each probe image carry which label: sparse over labels, one bit a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelMasks:
    """The labelled pixels of N images.

    Attributes:
        size: height and width of every mask.
        category: ``[K]`` int, the category (a column of ``annotated``) that each label counts in.
        annotated: ``[N, C]`` bool, whether an image is labelled in a category at all.
        starts: ``[N + 1]``, image n owns the rows ``starts[n]`` to ``starts[n + 1]`` of the two arrays below.
        labels: ``[S]`` int, the label of each row; rising within an image.
        bits: ``[S, ceil(H·W / 8)]`` uint8, its pixels, packed as :func:`numpy.packbits` does.
    """

    size: tuple[int, int]
    category: np.ndarray
    annotated: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    bits: np.ndarray

    def __len__(self) -> int:
        return len(self.annotated)

    @property
    def pixels(self) -> int:
        """Pixels of one mask, H·W."""
        return self.size[0] * self.size[1]

    def of(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """The labels of one image, ``[l]``, and their masks, uint8 0 or 1 ``[l, H·W]``."""
        rows = slice(self.starts[image], self.starts[image + 1])
        return self.labels[rows], np.unpackbits(self.bits[rows], axis=1, count=self.pixels)

    @cached_property
    def label_pixels(self) -> np.ndarray:
        """``[K]`` int64, each label's pixels over all images."""
        found = np.zeros(len(self.category), dtype=np.int64)
        np.add.at(found, self.labels, np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64))
        return found

    @cached_property
    def images_with(self) -> np.ndarray:
        """``[K]`` int64, how many images have each label."""
        return np.bincount(self.labels, minlength=len(self.category))


def pack_masks(
    images: Iterable[Mapping[int, np.ndarray]],
    annotated: np.ndarray,
    category: Sequence[int],
    size: tuple[int, int],
) -> LabelMasks:
    """Builds `LabelMasks`.

    Args:
        images: per image, label index to bool ``[H, W]``; masks without a pixel are left out.
        annotated: ``[N, C]`` bool.
        category: ``[K]``, a column of ``annotated`` each.
        size: H and W.

    Raises:
        ValueError: a mask has another size, a label is not below K, or there are not N images.
    """
    starts, labels, bits = [0], [], []
    for image, masks in enumerate(images):
        for label, mask in sorted(masks.items()):
            if mask.shape != tuple(size) or not 0 <= label < len(category):
                raise ValueError(f"image {image}, label {label}: mask {mask.shape}, {size} and labels below "
                                 f"{len(category)} are expected")  # fmt: skip
            if mask.any():
                labels.append(label)
                bits.append(np.packbits(mask.reshape(-1).astype(bool)))
        starts.append(len(labels))
    if len(starts) != len(annotated) + 1:
        raise ValueError(f"{len(starts) - 1} images with masks, {len(annotated)} are expected")
    width = -(-size[0] * size[1] // 8)
    return LabelMasks(
        size=(size[0], size[1]),
        category=np.asarray(category, dtype=np.int64),
        annotated=np.asarray(annotated, dtype=bool),
        starts=np.asarray(starts, dtype=np.int64),
        labels=np.asarray(labels, dtype=np.int64),
        bits=np.stack(bits) if bits else np.zeros((0, width), dtype=np.uint8),
    )
