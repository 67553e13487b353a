"""The pixels of a Broden set: its masks packed for a run's probe images, which are recognised by what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cm_server.concepts.broden import Broden, BrodenImage
from cm_server.concepts.concept_set import ConceptFileError
from cm_server.core.masks import LabelMasks, pack_masks

Progress = Callable[[int, int], None]
_THUMB = 8
_TOLERANCE = 3.0
"""Mean difference in grey levels at which two thumbnails still show one picture: decoders differ by less."""
_FAR, _CLEARLY = 15.0, 0.5
"""A picture scaled on another way may differ by more, but then it is clearly nearer than any other."""
_LONGEST_SIDE = 4096
_BLOCK = 512


def read_masks(broden: Broden, images: Sequence[BrodenImage], progress: Progress | None = None) -> LabelMasks:
    """Masks of some of a set's images; label k is ``broden.labels[k]``, counted in its main category.

    Args:
        broden: the set.
        images: in the order of the probe images.
        progress: told (images done, images in all).

    Raises:
        ConceptFileError: a mask is missing or unreadable, or holds a number that ``label.csv`` does not list.
    """
    names = sorted({category for label in broden.labels for category in label.categories})
    place = {label.number: k for k, label in enumerate(broden.labels)}
    size = images[0].mask_size
    annotated = np.array([[name in image.categories for name in names] for image in images], dtype=bool)

    def each():
        for done, image in enumerate(images, start=1):
            yield _labelled(broden, image, place, size)
            if progress is not None and (done % 64 == 0 or done == len(images)):
                progress(done, len(images))

    return pack_masks(each(), annotated, [names.index(label.category) for label in broden.labels], size)


def _labelled(broden: Broden, image: BrodenImage, place: Mapping[int, int], size: tuple[int, int]):
    """Label index to bool ``[H, W]``; a label in several masks of an image is their union."""
    found = {place[number]: np.ones(size, dtype=bool) for numbers in image.whole.values() for number in numbers}
    for files in image.masks.values():
        for file in files:
            numbers = decode_mask(_pixels(broden.directory / "images" / file), size)
            for number in np.unique(numbers[numbers > 0]).tolist():
                if number not in place:
                    raise ConceptFileError(
                        f"mask {file} of {broden.directory} has label {number}, unknown to label.csv"
                    )
                here = numbers == number
                before = found.get(place[number])
                found[place[number]] = here if before is None else here | before
    return found


def decode_mask(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label numbers of a mask's pixels, R + 256·G, at ``size`` (nearest pixel where the file has another).

    Args:
        pixels: uint8 ``[h, w, 3]``.
        size: H and W.

    Returns:
        int32 ``[H, W]``, 0 where there is no label.

    Example:
        >>> decode_mask(np.array([[[1, 2, 0]]], dtype=np.uint8), (1, 1)).tolist()
        [[513]]
    """
    numbers = pixels[..., 0].astype(np.int32) + 256 * pixels[..., 1].astype(np.int32)
    if numbers.shape != tuple(size):
        rows, columns = ((np.arange(new) * old) // new for new, old in zip(size, numbers.shape, strict=True))
        numbers = numbers[np.ix_(rows, columns)]
    return numbers


def find_images(
    shown: np.ndarray, broden: Broden, progress: Progress | None = None
) -> tuple[tuple[BrodenImage, ...], np.ndarray]:
    """Which image of the set each probe image is, told by thumbnails: names and bytes need not survive the wire.

    Args:
        shown: uint8 ``[N, H, W, 3]``, as the client sent them.
        broden: the set.
        progress: told (images done, images in all).

    Returns:
        The images, and the thumbnails' mean difference ``[N]`` in grey levels.

    Raises:
        ConceptFileError: some probe image is none of the set's.
    """
    mine = _array_thumbnails(shown)
    theirs = _file_thumbnails(broden, progress)
    best, gap, second = _nearest(mine, theirs)
    # Two files may show one picture: where the set came whole and in order, its own row is the right one of them.
    in_order = np.arange(min(len(mine), len(theirs)))
    own = np.abs(mine[in_order] - theirs[in_order]).mean(axis=1) <= gap[in_order] + 1.0
    best[in_order[own]] = in_order[own]
    strangers = int(((gap > _TOLERANCE) & ((gap > _FAR) | (gap > _CLEARLY * second))).sum())
    if strangers:
        raise ConceptFileError(
            f"{strangers} of {len(mine)} probe images are not in the set {broden.directory}: watch with "
            f"probe={str(broden.directory)!r} (or ProbeSet.from_folder of it), so that the labels fit the images"
        )
    return tuple(broden.images[i] for i in best), gap


def _nearest(mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of ``theirs`` is nearest to each of ``mine``, how near, and how near the second nearest is."""
    best = np.zeros(len(mine), dtype=np.int64)
    two = np.full((len(mine), 2), np.inf, dtype=np.float32)
    for start in range(0, len(theirs), _BLOCK):
        block = theirs[start : start + _BLOCK]
        for row, thumb in enumerate(mine):
            differences = np.abs(block - thumb).mean(axis=1)
            nearest = int(differences.argmin())
            if differences[nearest] < two[row, 0]:
                best[row] = start + nearest
            two[row] = np.sort(np.concatenate([two[row], np.partition(differences, min(1, len(block) - 1))[:2]]))[:2]
    return best, two[:, 0], two[:, 1]


def _array_thumbnails(images: np.ndarray) -> np.ndarray:
    return np.stack([_thumbnail(image) for image in images])


def _file_thumbnails(broden: Broden, progress: Progress | None) -> np.ndarray:
    from PIL import Image

    found = []
    for done, image in enumerate(broden.images, start=1):
        path = broden.image_path(image)
        try:
            with Image.open(path) as opened:
                _require_size(opened.size, path)
                opened.draft("RGB", (8 * _THUMB, 8 * _THUMB))
                found.append(_thumbnail(np.asarray(opened.convert("RGB"))))
        except OSError as error:
            raise ConceptFileError(f"image {path} cannot be read: {error}") from error
        if progress is not None and (done % 256 == 0 or done == len(broden.images)):
            progress(done, len(broden.images))
    return np.stack(found)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    small = Image.fromarray(np.asarray(image)).resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).reshape(-1)


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            _require_size(opened.size, path)
            return np.asarray(opened.convert("RGB"))
    except OSError as error:
        raise ConceptFileError(f"mask {path} cannot be read: {error}") from error


def _require_size(size: tuple[int, int], path: Path) -> None:
    if max(size) > _LONGEST_SIDE:
        raise ConceptFileError(f"{path} has {size[0]}×{size[1]} pixels: {_LONGEST_SIDE} a side are allowed")
