"""Similarities from chunks of a capture, in any order, without ever holding its ``[N, M]`` matrix.

With a fixed probe set P is known beforehand, so cos_cubed is a sum over images (METHODS: similarities), and soft_wpmi
needs each unit's top 100 images alone. Both give what the functions of `core.similarity` give for the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cm_server.core.similarity import CONSTANT_TOLERANCE, SOFT_WPMI_IMAGES
from cm_server.core.similarity.information import concepts_given_images, soft_wpmi_of_top
from cm_server.core.similarity.units import ordered

_BINOMIAL = (1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0)


class Rows:
    """Counts the images that have come: each must come once.

    Args:
        images: N.
    """

    def __init__(self, images: int) -> None:
        self._here = torch.zeros(images, dtype=torch.bool)

    def take(self, start: int, count: int) -> slice:
        """Rows ``start`` … of a chunk.

        Raises:
            ValueError: they lie outside, or one of them came before.
        """
        rows = slice(start, start + count)
        if start < 0 or start + count > len(self._here):
            raise ValueError(f"images {start} to {start + count - 1} of a probe set of {len(self._here)}")
        if bool(self._here[rows].any()):
            raise ValueError(f"images {start} to {start + count - 1}: some came before; each may come once")
        self._here[rows] = True
        return rows

    def require_all(self) -> None:
        """Raises ValueError while images are missing: part of a probe set gives another similarity."""
        missing = int((~self._here).sum())
        if missing:
            raise ValueError(f"{missing} of {len(self._here)} images are missing: add every chunk first")


class LiveStream:
    """`core.similarity.live_units` of chunks."""

    def __init__(self) -> None:
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def add(self, chunk: Tensor) -> None:
        """Takes some rows ``[n, M]``."""
        low, high = chunk.amin(dim=0), chunk.amax(dim=0)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    def result(self) -> Tensor:
        """bool ``[M]``.

        Raises:
            ValueError: nothing was added.
        """
        if self._low is None or self._high is None:
            raise ValueError("no chunk was added yet")
        scale = torch.maximum(self._low.abs(), self._high.abs())
        finite = torch.isfinite(self._low) & torch.isfinite(self._high)
        return finite & (self._high - self._low > CONSTANT_TOLERANCE * scale)


class TopImagesStream:
    """Each unit's highest activations so far; of equal ones the image with the lower number, whatever came first.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._values: Tensor | None = None
        self._images: Tensor | None = None

    def add(self, start: int, chunk: Tensor) -> None:
        """Takes the activations ``[n, M]`` of images ``start`` …"""
        kept = min(self._count, len(chunk))
        numbers = torch.arange(start, start + len(chunk), device=chunk.device)[:, None].expand_as(chunk)
        values, images = ordered(chunk, numbers)
        values, images = values[:kept], images[:kept]
        if self._values is not None and self._images is not None:
            values, images = torch.cat([self._values, values]), torch.cat([self._images, images])
            values, images = (part[: self._count] for part in ordered(values, images))
        self._values, self._images = values, images

    def result(self) -> tuple[Tensor, Tensor]:
        """Activations and image numbers ``[min(count, N), M]``, best first, as `core.similarity.top_images`.

        Raises:
            ValueError: nothing was added.
        """
        if self._values is None or self._images is None:
            raise ValueError("no chunk was added yet")
        return self._values, self._images


class SoftWpmiStream:
    """`core.similarity.soft_wpmi` of chunks: bit for bit the same.

    Args:
        image_text: P ``[N, K]``.
    """

    def __init__(self, image_text: Tensor) -> None:
        self._given = concepts_given_images(image_text)
        self._rows = Rows(len(image_text))
        self._top = TopImagesStream(SOFT_WPMI_IMAGES)

    def add(self, start: int, chunk: Tensor) -> None:
        """Takes the activations ``[n, M]`` of images ``start`` …

        Raises:
            ValueError: an image came before, or there is no such image.
        """
        self._rows.take(start, len(chunk))
        self._top.add(start, chunk)

    def result(self) -> Tensor:
        """``[M, K]``.

        Raises:
            ValueError: images are missing.
        """
        self._rows.require_all()
        return soft_wpmi_of_top(self._given, self._top.result()[1])


class CosCubedStream:
    """`core.similarity.cos_cubed` of chunks, to 1e-6: sums of powers of ``b = a - s``, s the first chunk's mean.

    With Q the cubed, centred columns of P, ``C_k = Σ bᵏ Q``, ``m_k = Σ bᵏ`` and ``μ = m1/N``, the numerator is
    ``C3 - 3μ C2 + 3μ² C1 - μ³ C0`` and the squared norm ``Σ_k binom(6, k) m_k (-μ)^(6-k)``. The sums C are kept in
    the input's precision, the moments in float64. Memory: three matrices ``[M, K]`` and P.

    Args:
        image_text: P ``[N, K]``.
        min_norm: floor of the norms, as in `cos_cubed`.
    """

    def __init__(self, image_text: Tensor, min_norm: float = 1e-3) -> None:
        self._rows = Rows(len(image_text))
        self._min_norm = min_norm
        self._concepts = (image_text - image_text.mean(dim=0)) ** 3
        norm = torch.linalg.vector_norm(self._concepts, dim=0)
        smallest = torch.finfo(norm.dtype).tiny
        flat = image_text.amax(dim=0) - image_text.amin(dim=0) <= CONSTANT_TOLERANCE * image_text.abs().amax(dim=0)
        self._concepts *= torch.where(flat, 0.0, 1 / norm.clamp_min(max(min_norm, smallest)))
        self._offset: Tensor | None = None

    def _begin(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        self._offset = chunk.mean(dim=0)
        spread = (chunk - self._offset).abs().amax(dim=0)
        self._scale = torch.where(torch.isfinite(spread) & (spread > 0), spread, 1.0)
        self._live = LiveStream()
        self._moments = chunk.new_zeros(7, chunk.shape[1], dtype=torch.float64)
        self._sums = [chunk.new_zeros(chunk.shape[1], self._concepts.shape[1]) for _ in range(3)]
        return self._offset, self._scale

    def add(self, start: int, chunk: Tensor) -> None:
        """Takes the activations ``[n, M]`` of images ``start`` …

        Raises:
            ValueError: an image came before, or there is no such image.
        """
        rows = self._rows.take(start, len(chunk))
        offset, scale = self._begin(chunk) if self._offset is None else (self._offset, self._scale)
        self._live.add(chunk)
        shifted = (chunk - offset) / scale
        power = shifted
        for sums in self._sums:
            sums.addmm_(power.T, self._concepts[rows])
            power = power * shifted
        wide, power = shifted.double(), torch.ones_like(shifted, dtype=torch.float64)
        for moment in self._moments:
            moment += power.sum(dim=0)
            power = power * wide

    def result(self) -> Tensor:
        """``[M, K]`` in [-1, 1].

        Raises:
            ValueError: images are missing.
        """
        self._rows.require_all()
        mean = self._moments[1] / self._moments[0]
        square = sum(factor * self._moments[k] * (-mean) ** (6 - k) for k, factor in enumerate(_BINOMIAL))
        norm = torch.as_tensor(square).clamp_min(0).sqrt()
        floor = self._min_norm / self._scale.double() ** 3
        first, second, third = self._sums
        m = mean[:, None].to(third.dtype)
        top = third - 3 * m * second + 3 * m**2 * first - m**3 * self._concepts.sum(dim=0)
        factor = 1 / torch.maximum(norm, floor).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.where(self._live.result()[:, None], top * factor[:, None].to(top.dtype), 0.0)
