"""Images to embed, by sample id: a folder, an array file, or one of the demo's picture sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cm_client.examples.demo_data import KINDS, DemoDataError, load_demo_data
from cm_server.cache import fingerprint

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"})
NAMES = tuple(kind for kind in KINDS if kind != "auto")
_HASHED = 2**24
_MOST_PIXELS = 64 * 2**20


class ImageSetError(ValueError):
    """There are no images to embed, or one cannot be read; the message names it and the cure."""


@dataclass(frozen=True)
class ImageSet:
    """Images by sample id.

    Attributes:
        name: what was asked for.
        ids: one a sample, None where a sample's id is its row.
        count: samples.
        fingerprint: changes where an image does (for a folder: where a path, size or time of change does).
        read: rows ``start`` to ``stop`` as uint8 ``[H, W, 3]``, each of its own size.
    """

    name: str
    ids: tuple[str, ...] | None
    count: int
    fingerprint: str
    read: Callable[[int, int], list[np.ndarray]]


def open_image_set(name: str, split: str = "train") -> ImageSet:
    """The images of a folder, a ``.npy`` or ``.npz`` file, or a data set by name.

    Args:
        name: a path, or one of `NAMES`.
        split: ``train`` or ``test``, of a data set by name.

    Raises:
        ImageSetError: nothing is there, or it holds no images.
    """
    path = Path(name)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _rows(name, _array(path))
    if name in NAMES:
        try:
            data = load_demo_data(name)
        except DemoDataError as error:
            raise ImageSetError(str(error)) from None
        return _rows(f"{name} ({split})", data.images if split == "train" else data.test_images)
    raise ImageSetError(
        f"dataset {name!r} is neither a folder nor a file: give a folder of images, a .npy or .npz of uint8 images, "
        f"or one of {', '.join(NAMES)}"
    )


def _folder(root: Path) -> ImageSet:
    # By folder, then by name: the order of torchvision's ImageFolder, so that its sample numbers are row numbers.
    found = sorted((p for p in root.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()), key=lambda p: p.parts)
    if not found:
        raise ImageSetError(f"no image in {root}: files that end in {', '.join(sorted(ENDINGS))} are taken")
    ids = tuple(p.relative_to(root).as_posix() for p in found)
    states = [os.stat(p) for p in found]
    marks = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in zip(ids, states, strict=True)]
    return ImageSet(
        str(root), ids, len(ids), fingerprint(*marks), lambda start, stop: [_image(p) for p in found[start:stop]]
    )


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:  # a file of 20 KB can be an image of 850 MB
                raise ValueError(f"{image.width} × {image.height} pixels are too many")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageSetError(f"image {path} cannot be read ({error}): mend or remove it, then run this again") from None


def _array(path: Path) -> Any:
    cure = "give a .npy, or a .npz with an array 'images', of uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W]"
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded["images"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ImageSetError(f"{path} cannot be read ({error}): {cure}") from None
    channels = array.shape[3] if array.ndim == 4 else 1
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or channels not in (1, 3) or not array.size:
        raise ImageSetError(f"{path} holds {array.dtype} {array.shape}: {cure}")
    return array


def _rows(name: str, images: Any) -> ImageSet:
    def read(start: int, stop: int) -> list[np.ndarray]:
        part = np.asarray(images[start:stop])
        part = part[..., None] if part.ndim == 3 else part
        return list(np.repeat(part, 3, axis=3) if part.shape[3] == 1 else part)

    step = max(1, _HASHED // max(1, images[0].nbytes))
    parts = (np.ascontiguousarray(images[start : start + step]).tobytes() for start in range(0, len(images), step))
    total = ""
    for part in parts:
        total = fingerprint(total, part)
    return ImageSet(name, None, len(images), fingerprint(images.shape, total), read)
