"""What every demo data set looks like to the training script: plain arrays and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class DemoDataError(ValueError):
    """A demo data set could not be loaded; the message names the cause and the cure in one line."""


@dataclass(frozen=True)
class DemoData:
    """A labelled picture set, split into training and test pictures.

    Attributes:
        images: uint8 ``[n, H, W, C]`` with C = 1 (grey) or 3 (RGB).
        labels: int64 ``[n]``, each in ``0 … len(class_names) - 1``.
        test_images: uint8 ``[m, H, W, C]``, never shown in training.
        test_labels: int64 ``[m]``.
        class_names: one name a class, in label order.
        mean: per-channel mean of the training pictures, in 0..1 units.
        std: per-channel standard deviation of the training pictures, in 0..1 units, above 0.
        source: one plain sentence: where the pictures come from, with their licence.
        name: ``fashion-mnist``, ``materials`` or ``generated``.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    name: str

    @property
    def channels(self) -> int:
        """Colour channels of a picture: 1 or 3."""
        return int(self.images.shape[3])


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in 0..1 units.

    Args:
        images: uint8 ``[n, H, W, C]``.

    Returns:
        ``(mean, std)``, each of length C; a constant channel gets std 1/255 so that dividing by it is safe.
    """
    # A histogram is exact for 8-bit values and needs no float copy of the whole set.
    levels = np.arange(256) / 255.0
    mean, std = [], []
    for channel in range(images.shape[3]):
        weights = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., channel].size
        centre = float(weights @ levels)
        mean.append(round(centre, 6))
        std.append(round(max(float(np.sqrt(weights @ (levels - centre) ** 2)), 1 / 255), 6))
    return tuple(mean), tuple(std)
