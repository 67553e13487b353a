"""Pictures on disk as a probe set: a set in Broden's format, or any folder of pictures, with sub-folders as classes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from cm_client.errors import ClientError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_MOST_PIXELS = 64 * 2**20


def read_folder(
    folder: Path, size: int, limit: int | None
) -> tuple[np.ndarray, list[str], list[str] | None, list[int] | None]:
    """Pictures of one size.

    Args:
        folder: with ``index.csv`` and ``images/`` (Broden's format, in the list's order, stretched to a square as its
            masks are), or with pictures in it or in sub-folders (sorted by path, the middle square).
        size: height and width.
        limit: at most so many: the first ones of a Broden set, else evenly spread over the sorted paths.

    Returns:
        uint8 ``[N, size, size, 3]``, their paths, and for pictures in sub-folders class names and one index each.

    Raises:
        ClientError: no Pillow, no picture, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ClientError(f"probe folder {str(folder)!r} does not exist: give a folder of pictures")
    is_broden = (folder / "index.csv").is_file()
    root = folder / "images" if is_broden else folder
    paths = _listed(folder / "index.csv") if is_broden else _found(folder)
    if limit is not None and len(paths) > limit:
        chosen = range(limit) if is_broden else np.linspace(0, len(paths) - 1, limit).round().astype(int)
        paths = [paths[i] for i in chosen]
    if not paths:
        raise ClientError(f"probe folder {str(folder)!r} holds no picture ({', '.join(ENDINGS)})")
    images = np.stack([_read(root / path, size, square=not is_broden) for path in paths])
    names = sorted({Path(path).parts[0] for path in paths if len(Path(path).parts) > 1})
    if is_broden or not all(len(Path(path).parts) > 1 for path in paths):
        return images, paths, None, None
    return images, paths, names, [names.index(Path(path).parts[0]) for path in paths]


def _listed(index: Path) -> list[str]:
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            found = [(row.get("image") or "").strip() for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClientError(f"{index} cannot be read as a list of images: {error}") from error
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in found):
        raise ClientError(f"{index} names an image outside of its folder")
    return [path for path in found if path]


def _found(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
    )


def _read(path: Path, size: int, square: bool) -> np.ndarray:
    image = _pillow()
    try:
        with image.open(path) as opened:
            if opened.size[0] * opened.size[1] > _MOST_PIXELS:
                raise ClientError(f"probe picture {path} has {opened.size[0]}×{opened.size[1]} pixels: leave it out")
            picture = opened.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ClientError(f"probe picture {path} cannot be read: {error}") from error
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side) if square else (0, 0, width, height)
    if picture.size != (size, size) or (square and side != size):
        picture = picture.resize((size, size), image.Resampling.BILINEAR, box=box)
    return np.asarray(picture)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ClientError("reading pictures from a folder needs Pillow: pip install pillow") from error
    return Image
