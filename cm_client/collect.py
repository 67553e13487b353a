"""A probe set made from the inputs of the first training steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cm_client.calls import FIRST, Call, Path, find_images, kept, other_rows, stands_alone
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
        self._path: Path | None = None
        self._template: tuple[Any, Any] = ((), {})
        self._others: dict[Path, list[Tensor]] = {}
        self._earlier = earlier
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
        path, images = find_images(args, kwargs)
        if path is None or images is None:
            if not self._parts and self.forwards >= PATIENCE:
                raise ClientError(
                    f"no image (a 4-D float tensor with 1 or 3 channels) in the first {PATIENCE} training forwards: "
                    "pass probe=cm_client.ProbeSet(images, transform=…)"
                )
            return
        others = other_rows(args, kwargs, path, len(images))
        if self._path is None and stands_alone(path) and self._taken_up(images):
            self._path = path
            return
        if self._path is None:
            self._path = path
            self._template = kept((args, kwargs), {path, *others})
            self._others = {place: [] for place in others}
        if path == self._path and self._alike(images, others):
            self._add(images, others)

    def calls(self) -> list[FrozenProbes]:
        """The probe set from what is there, in the ways to call the model that are worth trying.

        First with the images alone, then with all that the training passed along.
        """
        inputs = torch.cat(self._parts)
        with torch.device("cpu"):  # whatever the script's default device is
            images = pictures(inputs, self._mean, self._std, self._unnormalize)
        whole = Call(self._path or FIRST, self._template, {p: torch.cat(rows) for p, rows in self._others.items()})
        self._parts.clear()
        self._others.clear()
        args, kwargs = whole.template or ((), {})
        alone = stands_alone(whole.path)
        ways = [whole.alone] if alone else []
        if not alone or len(args) + len(kwargs) > 1:
            ways.append(whole)
        return [freeze(inputs, images, "the first training inputs", way) for way in ways]

    def settled(self, probes: FrozenProbes) -> None:
        """These are what the run is probed with: kept for its next process, where they are images alone."""
        if self._earlier is not None and probes.call.template is None:
            self._earlier.save(probes.inputs)

    def _taken_up(self, images: Tensor) -> bool:
        """Whether an earlier process of the run was probed with images like these: then they are the set."""
        found = self._earlier.like(images) if self._earlier is not None else None
        if found is None:
            return False
        self._parts, self._size, self._earlier = [found], len(found), None
        return True

    def _alike(self, images: Tensor, others: dict[Path, Tensor]) -> bool:
        if not self._parts:
            return True
        same = images.shape[1:] == self._parts[0].shape[1:] and others.keys() == self._others.keys()
        return same and all(others[p].shape[1:] == rows[0].shape[1:] for p, rows in self._others.items())

    def _add(self, images: Tensor, others: dict[Path, Tensor]) -> None:
        room = self._size - self.count
        # Decided on the whole set's size, so that every part has one dtype.
        dtype = self._parts[0].dtype if self._parts else _kept_dtype(images, self._size)
        self._parts.append(images[:room].detach().to("cpu", dtype, copy=True).contiguous())
        for path, rows in others.items():
            self._others[path].append(rows[:room].detach().to("cpu", copy=True).contiguous())


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
    scale, shift = scale_and_shift(inputs, mean, std) if unnormalize is None else (torch.empty(0), torch.empty(0))
    parts = []
    for part in inputs.split(256):
        if unnormalize is not None:
            parts.append(_as_uint8(unnormalize(part.float()), channels, len(part)))
            continue
        shown = part.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        parts.append(_as_uint8(shown, channels, len(part)))
    return np.concatenate(parts)


def scale_and_shift(
    inputs: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """What takes inputs ``[N, C, H, W]`` to 0..1 pictures: ``x * scale + shift``, ``[C]`` each, as `pictures` does.

    Raises:
        ClientError: mean or std do not fit the channels.
    """
    channels = inputs.shape[1]
    if mean is not None and std is not None:
        scale, shift = torch.tensor(std, dtype=torch.float32), torch.tensor(mean, dtype=torch.float32)
        if scale.shape != (channels,) or shift.shape != (channels,):
            raise ClientError(
                f"mean {mean!r} and std {std!r} for images with {channels} channels: give one per channel"
            )
        return scale, shift
    low, high = _ranges(inputs)
    if low.min() < 0 or high.max() > 1:
        scale = 1 / (high - low).clamp_min(1e-12)
        return scale, -low * scale
    return torch.ones(channels), torch.zeros(channels)


def _ranges(inputs: Tensor) -> tuple[Tensor, Tensor]:
    lows, highs = [], []
    for part in inputs.split(256):
        finite = torch.nan_to_num(part.float(), nan=0.0, posinf=0.0, neginf=0.0)
        lows.append(finite.amin((0, 2, 3)))
        highs.append(finite.amax((0, 2, 3)))
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


def _as_uint8(shown: Any, channels: int, count: int) -> np.ndarray:
    return as_uint8(shown, channels, count).cpu().numpy()


def as_uint8(shown: Any, channels: int, count: int) -> Tensor:
    """Pictures, uint8 or floats in 0..1, ``[n, C, H, W]`` or ``[n, H, W, C]``: uint8 ``[n, H, W, C]`` on their device.

    Raises:
        ClientError: another shape.
    """
    tensor = torch.as_tensor(shown).detach()
    if tensor.ndim != 4 or len(tensor) != count or channels not in (tensor.shape[1], tensor.shape[3]):
        raise ClientError(
            f"unnormalize returned shape {tuple(tensor.shape)}: give [n, {channels}, H, W] or [n, H, W, {channels}]"
        )
    if tensor.shape[1] == channels:
        tensor = tensor.permute(0, 2, 3, 1)
    if tensor.dtype != torch.uint8:
        tensor = (torch.nan_to_num(tensor.float()).clamp(0, 1) * 255).round().byte()
    return tensor.contiguous()


def _kept_dtype(images: Tensor, size: int) -> torch.dtype:
    large = images[:1].nbytes * size > INPUT_LIMIT
    return torch.float16 if large and images.element_size() > 2 else images.dtype
