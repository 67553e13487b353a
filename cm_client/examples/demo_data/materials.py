"""``materials``: crops of material photographs and cut-outs of things, from Debian's gimp and tuxpaint packages.

A picture of a material class is a random crop of one of the class's patterns; a picture of a thing is a photographic
cut-out (its alpha channel is an exact mask) placed at random on a crop of some pattern. Test pictures are new crops and
placings of the same source pictures: the test measures recognition of these pictures, not of unseen ones.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cm_client.examples.demo_data.catalogue import CUTOUTS, PATTERNS
from cm_client.examples.demo_data.dataset import DemoData, DemoDataError, channel_statistics

if TYPE_CHECKING:
    from PIL.Image import Image

PER_CLASS = 400
TEST_PER_CLASS = 60
LEAST_CLASSES = 12
CUTOUT_SIDE = 96
SYSTEM_FOLDER = Path("/usr/share")
CURE = (
    "install with 'apt-get install gimp-data gimp-data-extras tuxpaint-stamps-default', point CM_DEMO_ASSETS at "
    "their unpacked folder, or choose --data generated"
)


@dataclass(frozen=True)
class Sources:
    """Pictures by class: RGB patterns and RGBA cut-outs."""

    patterns: dict[str, list[Image]]
    cutouts: dict[str, list[Image]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Materials first, then things, in the catalogue's order."""
        return (*self.patterns, *self.cutouts)


def _roots(root: Path | None) -> list[Path]:
    given = [] if root is None else [root]
    given += [Path(entry) for entry in os.environ.get("CM_DEMO_ASSETS", "").split(os.pathsep) if entry]
    found: list[Path] = []
    for base in given:
        found += [base, base / "usr/share", base / "gimp/usr/share", base / "tux/usr/share"]
    return [*found, SYSTEM_FOLDER]


def _folder(root: Path | None, below: str) -> Path | None:
    return next((base / below for base in _roots(root) if (base / below).is_dir()), None)


def pattern_folder(root: Path | None = None) -> Path | None:
    """Where gimp's patterns lie: below ``root``, ``CM_DEMO_ASSETS`` (several by ``:``) or ``/usr/share``."""
    return _folder(root, "gimp/2.0/patterns") or _folder(root, "gimp/3.0/patterns")


def stamp_folder(root: Path | None = None) -> Path | None:
    """Where tuxpaint's stamps lie, searched like the patterns."""
    return _folder(root, "tuxpaint/stamps")


def available(root: Path | None = None) -> bool:
    """Whether the set can be built here: Pillow can be imported and enough classes have pictures."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        return False
    patterns, cutouts = _pattern_files(pattern_folder(root)), _cutout_files(stamp_folder(root))
    return len(patterns) + len(cutouts) >= LEAST_CLASSES


def _pattern_files(folder: Path | None) -> dict[str, list[Path]]:
    if folder is None:
        return {}
    there = {path.stem: path for path in sorted(folder.rglob("*.pat"))}
    files = {name: [there[stem] for stem in stems if stem in there] for name, stems in PATTERNS.items()}
    return {name: paths for name, paths in files.items() if paths}


def _cutout_files(folder: Path | None) -> dict[str, list[Path]]:
    if folder is None:
        return {}
    files: dict[str, list[Path]] = {}
    for name, places in CUTOUTS.items():
        for place in places:
            single = (folder / place).with_suffix(".png")
            # Not recursive: sub-folders named "cartoon" hold drawings. Mirrored copies come free with the flips.
            paths = [single] if single.is_file() else sorted((folder / place).glob("*.png"))
            files.setdefault(name, []).extend(path for path in paths if "_mirror" not in path.stem)
    return {name: paths for name, paths in files.items() if paths}


def read_pattern(path: Path) -> np.ndarray:
    """Read a GIMP pattern, version 1.

    The format is five big-endian 32-bit numbers (header size, version, width, height, bytes a pixel), the letters GPAT,
    a name up to the header's end, then the pixels row by row.

    Args:
        path: the ``.pat`` file.

    Returns:
        uint8 RGB ``[H, W, 3]``; grey patterns are repeated, alpha is dropped.

    Raises:
        DemoDataError: not a pattern of version 1, or truncated.
    """
    raw = path.read_bytes()
    if len(raw) < 24 or raw[20:24] != b"GPAT":
        raise DemoDataError(f"{path}: not a GIMP pattern (starts with {raw[:24].hex()}); {CURE}")
    header, _, width, height, depth = struct.unpack(">5I", raw[:20])
    expected = width * height * depth
    if depth not in (1, 2, 3, 4) or len(raw) - header < expected or expected == 0:
        raise DemoDataError(f"{path}: truncated, {len(raw) - header} of {expected} bytes; {CURE}")
    pixels = np.frombuffer(raw, np.uint8, expected, header).reshape(height, width, depth)
    return pixels[..., :3] if depth >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


def _open_pattern(path: Path) -> Image:
    from PIL import Image

    pixels = read_pattern(path)
    # Patterns are made to tile: repeating small ones gives crops of every size a place.
    repeat = [max(1, -(-128 // side)) for side in pixels.shape[:2]]
    return Image.fromarray(np.tile(pixels, (*repeat, 1)))


def _open_cutout(path: Path) -> Image:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise DemoDataError(f"{path}: unreadable or truncated ({error}); {CURE}") from error
    picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, *picture.size))
    picture.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE))
    return picture


def read_sources(root: Path | None = None) -> Sources:
    """Read every catalogued picture that is installed.

    Args:
        root: folder searched first.

    Returns:
        Patterns and cut-outs by class.

    Raises:
        DemoDataError: Pillow missing, fewer than 12 classes found, or a file truncated.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DemoDataError("materials: Pillow is not installed; 'pip install pillow', or --data generated") from error
    patterns, cutouts = _pattern_files(pattern_folder(root)), _cutout_files(stamp_folder(root))
    if len(patterns) + len(cutouts) < LEAST_CLASSES:
        count = f"{len(patterns)} classes of materials and {len(cutouts)} of things found"
        raise DemoDataError(f"materials: only {count}, {LEAST_CLASSES} needed; {CURE}")
    return Sources(
        {name: [_open_pattern(path) for path in paths] for name, paths in patterns.items()},
        {name: [_open_cutout(path) for path in paths] for name, paths in cutouts.items()},
    )


def _crop(pattern: Image, size: int, rng: np.random.Generator) -> Image:
    side = int(rng.integers(size, min(3 * size, *pattern.size) + 1)) if min(pattern.size) > size else min(pattern.size)
    left, top = (int(rng.integers(0, length - side + 1)) for length in pattern.size)
    return pattern.resize((size, size), box=(left, top, left + side, top + side), resample=2)


def _placed(cutout: Image, ground: Image, rng: np.random.Generator) -> Image:
    from PIL.Image import Transpose

    size = ground.size[0]
    scale = size * rng.uniform(0.7, 1.1) / max(cutout.size)
    width, height = (max(1, round(side * scale)) for side in cutout.size)
    thing = cutout.resize((width, height), resample=2)
    if rng.random() < 0.5:
        thing = thing.transpose(Transpose.FLIP_LEFT_RIGHT)
    left, top = (int(rng.integers(min(0, size - side), max(0, size - side) + 1)) for side in (width, height))
    ground.paste(thing, (left, top), thing)
    return ground


def _picture(sources: Sources, name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    if name in sources.patterns:
        choices = sources.patterns[name]
        drawn = np.asarray(_crop(choices[rng.integers(len(choices))], size, rng), np.float32)
    else:
        choices = sources.cutouts[name]
        drawn = np.asarray(_placed(choices[rng.integers(len(choices))], _ground(sources, size, rng), rng), np.float32)
    drawn = drawn[:, ::-1] if rng.random() < 0.5 else drawn
    # Brightness varies as in photographs of one thing under different light.
    return np.clip(drawn * rng.uniform(0.75, 1.15), 0, 255).astype(np.uint8)


def _ground(sources: Sources, size: int, rng: np.random.Generator) -> Image:
    from PIL import Image

    names = list(sources.patterns)
    if not names:
        return Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(64, 256, 3)))
    choices = sources.patterns[names[rng.integers(len(names))]]
    return _crop(choices[rng.integers(len(choices))], size, rng)


def _drawn(sources: Sources, count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    names = sources.class_names
    labels = rng.permutation(np.repeat(np.arange(len(names), dtype=np.int64), count))
    return np.stack([_picture(sources, names[label], size, rng) for label in labels]), labels


def load(root: Path | None = None, size: int | None = None, seed: int = 0) -> DemoData:
    """Build the set: 400 training and 60 test pictures a class, equally many of each.

    Args:
        root: folder searched first.
        size: side in pixels, 16 to 64; None is 32.
        seed: of crops and placings.

    Returns:
        The pictures, uint8 ``[n, size, size, 3]``.

    Raises:
        DemoDataError: nothing or too little found, a file truncated, or a size out of range.
    """
    size = 32 if size is None else size
    if not 16 <= size <= 64:
        raise DemoDataError(f"size {size}: materials can be built at 16 to 64 pixels")
    sources = read_sources(root)
    rng = np.random.default_rng(seed)
    images, labels = _drawn(sources, PER_CLASS, size, rng)
    test_images, test_labels = _drawn(sources, TEST_PER_CLASS, size, rng)
    mean, std = channel_statistics(images)
    places = " and ".join(str(place) for place in (pattern_folder(root), stamp_folder(root)) if place is not None)
    return DemoData(
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=sources.class_names,
        mean=mean,
        std=std,
        source=f"Random crops and placings of GIMP patterns and Tux Paint photographs (GPL-2+, GPL-2), from {places}; "
        "test pictures are other crops of the same sources.",
        name="materials",
    )
