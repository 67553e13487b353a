"""The probe set: the fixed images that every capture of a run is taken on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cm_client.calls import Call
from cm_client.class_labels import ClassLabels, class_labels
from cm_client.errors import ClientError
from cm_client.outbox import ProbeImages
from cm_client.protocol import limits

INPUT_LIMIT = 256 * 2**20
"""Bytes of model inputs kept in their own dtype; above, they are kept as float16."""
IMAGE_SIDE = 224
"""Longer side of the images sent to the server, at most."""
_PART = 256


class ProbeSet:
    """A probe set of the user's own.

    Args:
        images: uint8 ``[N, H, W, 3]``, ``[N, H, W, 1]`` or ``[N, H, W]``, an array or a tensor.
        labels: one a sample: class numbers from 0, or texts. They travel only to a detector that needs them (invert).
        ids: one a sample, for the user's own use.
        transform: uint8 tensor ``[n, H, W, C]`` to what the model's forward takes; deterministic. By default
            ``x / 255`` as ``[n, C, H, W]``.
        source: one sentence: where the images come from.
        class_names: what the numbers in ``labels`` stand for.

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
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.images = _checked_images(images)
        for name, values in (("labels", labels), ("ids", ids)):
            if values is not None and len(values) != len(self.images):
                raise ClientError(f"probe set with {len(self.images)} images and {len(values)} {name}: give one each")
        self.labels, self.ids, self.class_names = labels, ids, class_names
        self.transform = transform or _scaled
        self.source = source[:500]
        self.fingerprint = digest(self.images)

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        transform: Callable[[Tensor], Tensor] | None = None,
        size: int = IMAGE_SIDE,
        limit: int | None = None,
    ) -> ProbeSet:
        """Pictures on disk: what `concept-monitor probe build` made, the real Broden, or any folder of pictures.

        Args:
            folder: a set in Broden's format, or pictures (in sub-folders: these become labels).
            transform: see the class; pictures come as uint8 ``[n, size, size, 3]``.
            size: height and width; give what the model takes, up to 512.
            limit: at most so many pictures.

        Raises:
            ClientError: there are none, or one cannot be read.
        """
        from cm_client.probe_folder import read_folder

        folder = Path(folder)
        if not 8 <= size <= limits.MAX_IMAGE_SIDE or (limit is not None and limit < 1):
            raise ClientError(f"size {size}, limit {limit}: give 8 to {limits.MAX_IMAGE_SIDE}, and 1 or more")
        images, paths, names, numbers = read_folder(folder, size, limit)
        return cls(images, numbers, paths, transform, f"pictures in {folder.name}", names)

    def classes(self) -> ClassLabels | None:
        """The labels as they travel; None where there are none, or they are no class labels.

        Raises:
            ClientError: ``class_names`` were given and the labels do not fit them.
        """
        if self.labels is None:
            return None
        try:
            return class_labels(self.labels, self.class_names)
        except ClientError:
            if self.class_names is None:
                return None  # labels for the user's own use may be anything
            raise

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


def probe_set(
    given: ProbeSet | str | os.PathLike[str] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> ProbeSet | None:
    """What ``watch(probe=…)`` was given, as a probe set.

    Args:
        given: a probe set as it is, or a folder for `ProbeSet.from_folder`.
        mean: per channel, in 0..1 units; with ``std`` it normalises a folder's pictures.
        std: see ``mean``.

    Raises:
        ClientError: it is neither, or the folder has no pictures.
    """
    if given is None or isinstance(given, ProbeSet):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ClientError(f"probe of type {type(given).__name__}: give a ProbeSet, or a folder of pictures")
    if mean is None or std is None:
        return ProbeSet.from_folder(given)
    shift, scale = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
    return ProbeSet.from_folder(given, lambda images: (_scaled(images) - shift) / scale)


@dataclass(frozen=True)
class FrozenProbes:
    """What a run is probed with: the model's ``inputs`` ``[N, …]`` on the CPU and, row by row, what they ``show``.

    ``call`` says how the model takes the inputs, and what else it is given with them.
    """

    inputs: Tensor
    shown: ProbeImages
    call: Call = field(default_factory=Call)


def freeze(
    inputs: Tensor,
    images: np.ndarray,
    source: str,
    call: Call | None = None,
    labels: ClassLabels | None = None,
) -> FrozenProbes:
    """Images made ready for the wire (three channels, longer side at most 224).

    The fingerprint covers inputs, images, class labels and what else the model is given row by row.
    """
    small, call = shrunk(images), call or Call()
    others = [_bytes(rows) for rows in call.rows.values()]
    fingerprint = digest(_bytes(inputs), *others, small, *_label_bytes(labels))
    return FrozenProbes(inputs, ProbeImages(small, fingerprint, source, labels), call)


def _label_bytes(labels: ClassLabels | None) -> tuple[np.ndarray, ...]:
    if labels is None:
        return ()
    return labels.numbers, np.frombuffer("\0".join(labels.names).encode(), dtype=np.uint8)


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
