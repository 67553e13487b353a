"""A probe set made from the inputs of the first training steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cm_client.errors import ClientError
from cm_client.kept_inputs import KeptInputs
from cm_client.probe import INPUT_LIMIT, FrozenProbes, freeze

FEWEST = 32
"""Images that make a probe set where the training ends before it is complete."""
PATIENCE = 10
"""Training forwards without an image before the client gives up."""

Unnormalize = Callable[[Tensor], Any]


class Collector:
    """Keeps images as they come by, up to a number.

    Args:
        size: images wanted.
        mean: the training's normalisation, per channel in 0..1 units; with ``std``, or neither.
        std: see ``mean``.
        unnormalize: function from inputs ``[n, C, H, W]`` to pictures: uint8, or floats in 0..1, in the same layout or
            as ``[n, H, W, C]``. Goes before ``mean`` and ``std``.
        earlier: what an earlier process of the run was probed with, if there was one.

    Raises:
        ClientError: only one of ``mean`` and ``std`` is given.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        unnormalize: Unnormalize | None = None,
        earlier: KeptInputs | None = None,
    ) -> None:
        if (mean is None) != (std is None):
            raise ClientError(f"mean {mean!r} and std {std!r}: give both or neither")
        self._size, self._mean, self._std, self._unnormalize = size, mean, std, unnormalize
        self._parts: list[Tensor] = []
        self._earlier = earlier
        self._argument: str | None = None
        self.forwards = 0

    @property
    def count(self) -> int:
        """Images kept so far."""
        return sum(map(len, self._parts))

    @property
    def complete(self) -> bool:
        """Whether there are as many images as wanted."""
        return self.count >= self._size

    def offer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the arguments of one training forward; images of another shape than the first are passed by.

        Raises:
            ClientError: ten forwards, and no image among their arguments.
        """
        self.forwards += 1
        argument, images = find_images(args, kwargs)
        if images is None:
            if not self._parts and self.forwards >= PATIENCE:
                raise ClientError(
                    f"no image (a 4-D float tensor with 1 or 3 channels) in the first {PATIENCE} training forwards: "
                    "pass probe=cm_client.ProbeSet(images, transform=…)"
                )
            return
        if self._parts and (images.shape[1:] != self._parts[0].shape[1:] or argument != self._argument):
            return
        self._argument = argument
        if not self._parts and self._earlier is not None and (kept := self._earlier.like(images)) is not None:
            self._parts, self._size, self._earlier = [kept], len(kept), None
            return
        wanted = images[: self._size - self.count].detach()
        # Decided on the whole set's size, so that every part has one dtype.
        dtype = self._parts[0].dtype if self._parts else _kept_dtype(images, self._size)
        self._parts.append(wanted.to("cpu", dtype, copy=True).contiguous())

    def finish(self) -> FrozenProbes:
        """The probe set from what is there."""
        inputs = torch.cat(self._parts)
        self._parts.clear()
        if self._earlier is not None:
            self._earlier.save(inputs)
        images = pictures(inputs, self._mean, self._std, self._unnormalize)
        return freeze(inputs, images, "the first training inputs", self._argument)


def find_images(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, Tensor | None]:
    """The first 4-D floating tensor with 1 or 3 channels, and the keyword it came under (None: by position)."""
    for name, value in [*((None, a) for a in args), *kwargs.items()]:
        if isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point() and value.shape[1] in (1, 3):
            return name, value
    return None, None


def pictures(
    inputs: Tensor,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    unnormalize: Unnormalize | None = None,
) -> np.ndarray:
    """Model inputs ``[N, C, H, W]`` back to pictures, uint8 ``[N, H, W, C]``.

    By ``unnormalize``, else by ``x * std + mean``, else by stretching each channel's range over the whole set to
    0..255; inputs that all lie in 0..1 are taken as pictures already.

    Raises:
        ClientError: mean or std do not fit the channels, or ``unnormalize`` returns no pictures.
    """
    channels = inputs.shape[1]
    scale, shift = torch.ones(channels), torch.zeros(channels)
    if unnormalize is None and mean is not None and std is not None:
        scale, shift = torch.tensor(std, dtype=torch.float32), torch.tensor(mean, dtype=torch.float32)
        if scale.shape != (channels,) or shift.shape != (channels,):
            raise ClientError(
                f"mean {mean!r} and std {std!r} for images with {channels} channels: give one per channel"
            )
    elif unnormalize is None:
        low, high = _ranges(inputs)
        if low.min() < 0 or high.max() > 1:
            scale = 1 / (high - low).clamp_min(1e-12)
            shift = -low * scale
    parts = []
    for part in inputs.split(256):
        if unnormalize is not None:
            parts.append(_as_uint8(unnormalize(part.float()), channels, len(part)))
            continue
        shown = part.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        parts.append(_as_uint8(shown, channels, len(part)))
    return np.concatenate(parts)


def _ranges(inputs: Tensor) -> tuple[Tensor, Tensor]:
    lows, highs = [], []
    for part in inputs.split(256):
        finite = torch.nan_to_num(part.float(), nan=0.0, posinf=0.0, neginf=0.0)
        lows.append(finite.amin((0, 2, 3)))
        highs.append(finite.amax((0, 2, 3)))
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


def _as_uint8(shown: Any, channels: int, count: int) -> np.ndarray:
    tensor = torch.as_tensor(shown).detach().cpu()
    if tensor.ndim != 4 or len(tensor) != count or channels not in (tensor.shape[1], tensor.shape[3]):
        raise ClientError(
            f"unnormalize returned shape {tuple(tensor.shape)}: give [n, {channels}, H, W] or [n, H, W, {channels}]"
        )
    if tensor.shape[1] == channels:
        tensor = tensor.permute(0, 2, 3, 1)
    if tensor.dtype != torch.uint8:
        tensor = (torch.nan_to_num(tensor.float()).clamp(0, 1) * 255).round().byte()
    return tensor.contiguous().numpy()


def _kept_dtype(images: Tensor, size: int) -> torch.dtype:
    large = images[:1].nbytes * size > INPUT_LIMIT
    return torch.float16 if large and images.element_size() > 2 else images.dtype
