"""The probe set: the fixed images that every capture of a run is taken on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cm_client.calls import Call
from cm_client.errors import ClientError
from cm_client.outbox import ProbeImages

INPUT_LIMIT = 256 * 2**20
"""Bytes of model inputs kept in their own dtype; above, they are kept as float16."""
IMAGE_SIDE = 224
"""Longer side of the images sent to the server, at most."""
_PART = 256


class ProbeSet:
    """A probe set of the user's own.

    Args:
        images: uint8 ``[N, H, W, 3]``, ``[N, H, W, 1]`` or ``[N, H, W]``, an array or a tensor.
        labels: one a sample, for the user's own use.
        ids: one a sample, for the user's own use.
        transform: uint8 tensor ``[n, H, W, C]`` to what the model's forward takes; deterministic. By default
            ``x / 255`` as ``[n, C, H, W]``.
        source: one sentence: where the images come from.

    Attributes:
        fingerprint: sha256 (hex) over shape and bytes of the images.

    Raises:
        ClientError: the images, or the number of labels or ids, are not as said.
    """

    def __init__(
        self,
        images: Any,
        labels: Sequence[Any] | None = None,
        ids: Sequence[Any] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        source: str = "given by the user",
    ) -> None:
        self.images = _checked_images(images)
        for name, values in (("labels", labels), ("ids", ids)):
            if values is not None and len(values) != len(self.images):
                raise ClientError(f"probe set with {len(self.images)} images and {len(values)} {name}: give one each")
        self.labels, self.ids = labels, ids
        self.transform = transform or _scaled
        self.source = source[:500]
        self.fingerprint = digest(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self) -> Tensor:
        """All images as the model takes them, on the CPU.

        Raises:
            ClientError: the transform does not give one input per image.
        """
        parts = [self.transform(torch.from_numpy(p)) for p in np.array_split(self.images, -(-len(self) // _PART))]
        inputs = torch.cat([part.detach().cpu() for part in parts])
        if len(inputs) != len(self):
            raise ClientError(f"the probe set's transform gave {len(inputs)} inputs for {len(self)} images")
        return smaller(inputs)


@dataclass(frozen=True)
class FrozenProbes:
    """What a run is probed with: the model's ``inputs`` ``[N, …]`` on the CPU and, row by row, what they ``show``.

    ``call`` says how the model takes the inputs, and what else it is given with them.
    """

    inputs: Tensor
    shown: ProbeImages
    call: Call = field(default_factory=Call)


def freeze(inputs: Tensor, images: np.ndarray, source: str, call: Call | None = None) -> FrozenProbes:
    """Images made ready for the wire (three channels, longer side at most 224).

    The fingerprint covers inputs, images and what else the model is given row by row.
    """
    small, call = shrunk(images), call or Call()
    others = [_bytes(rows) for rows in call.rows.values()]
    return FrozenProbes(inputs, ProbeImages(small, digest(_bytes(inputs), *others, small), source), call)


def _bytes(inputs: Tensor) -> np.ndarray:
    # Through uint8, since numpy knows no bfloat16; the input's own shape stays in the hash.
    return inputs.contiguous().view(torch.uint8).numpy() if inputs.ndim else inputs.numpy()


def digest(*arrays: np.ndarray) -> str:
    """sha256 (hex) over dtype, shape and bytes of each array."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def smaller(inputs: Tensor) -> Tensor:
    """``inputs``, as float16 where they would take more than 256 MiB."""
    wide = inputs.is_floating_point() and inputs.element_size() > 2
    return inputs.half() if wide and inputs.nbytes > INPUT_LIMIT else inputs


def shrunk(images: np.ndarray, side: int = IMAGE_SIDE) -> np.ndarray:
    """uint8 ``[N, H, W, 1 or 3]`` to ``[N, h, w, 3]`` with ``max(h, w) <= side``, by area averages."""
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    height, width = images.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(images)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    parts = []
    for start in range(0, len(images), _PART):
        part = torch.from_numpy(images[start : start + _PART]).permute(0, 3, 1, 2).float()
        parts.append(functional.interpolate(part, size, mode="area").round().byte().permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def _checked_images(images: Any) -> np.ndarray:
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        raise ClientError(
            f"probe images of dtype {array.dtype} and shape {array.shape}: "
            "give uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W]"
        )
    return np.array(array, order="C")


def _scaled(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255
