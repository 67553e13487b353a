"""The pictures of the built set, one after another, each with its labelled pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cm_client.examples.demo_data.materials import read_pattern
from cm_server.probes import fields
from cm_server.probes.catalogue import MATERIALS, NOT_PHOTOGRAPHS, SCENES, object_name
from cm_server.probes.drawings import DRAWINGS, draw_thing
from cm_server.probes.packages import ProbeBuildError, Sources
from cm_server.probes.textures import TEXTURES, draw_texture

IMAGE_SIDE = 224
MASK_SIDE = 112
PER_OBJECT, PER_PATTERN, PER_TEXTURE, PER_DRAWING, PER_SCENE = 3, 4, 6, 6, 4
_BILINEAR = Image.Resampling.BILINEAR
_MOST_PIXELS = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture.

    Attributes:
        kind: which sort, the folder it goes into.
        image: uint8 ``[224, 224, 3]``.
        masks: by category, label name to bool ``[112, 112]``; labels of one category do not overlap.
        whole: by category, the label of the whole picture.
    """

    kind: str
    image: np.ndarray
    masks: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be drawn: as many functions as pictures, and every label that can occur, by category."""

    draw: tuple[Callable[[np.random.Generator], Picture], ...]
    labels: Mapping[str, tuple[str, ...]]


def make_plan(sources: Sources) -> Plan:
    """Looks at what there is; nothing is drawn yet.

    Raises:
        ProbeBuildError: a package has none of the pictures that it is known for.
    """
    stamps, patterns = _stamps(sources), _patterns(sources)
    scenes = _scenes(sources)
    known = {stem: name for name, stems in MATERIALS.items() for stem in stems}
    grounds = [(known.get(path.stem, ""), path) for path in patterns.values()]
    materials = [(name, patterns[stem]) for name, stems in MATERIALS.items() for stem in stems if stem in patterns]
    draw = [
        *(_bind(_object, name, path, grounds) for name, path in stamps for _ in range(PER_OBJECT)),
        *(_bind(_material, name, path) for name, path in materials for _ in range(PER_PATTERN)),
        *(_bind(_texture, name) for name in TEXTURES for _ in range(PER_TEXTURE)),
        *(_bind(_drawing, name) for name in DRAWINGS for _ in range(PER_DRAWING)),
        *(_bind(_scene, name, path) for name, path in scenes for _ in range(PER_SCENE)),
    ]
    sketches = [draw_thing(name, 32, np.random.default_rng(0)) for name in DRAWINGS]
    drawn = {name for sketch in sketches for name in sketch.objects}
    return Plan(
        tuple(draw),
        {
            "object": tuple(sorted({name for name, _ in stamps} | drawn)),
            "part": tuple(sorted({name for sketch in sketches for name in sketch.parts})),
            "material": tuple(sorted({name for name, _ in materials})),
            "scene": tuple(sorted({name for name, _ in scenes})),
            "texture": tuple(sorted(TEXTURES)),
        },
    )


def _bind(function: Callable[..., Picture], *args) -> Callable[[np.random.Generator], Picture]:
    return lambda rng: function(rng, *args)


def _stamps(sources: Sources) -> list[tuple[str, Path]]:
    """Photographic cut-outs with their words, sorted by path; mirrored copies are left out."""
    root = sources.folder("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps")
    found = []
    for path in sorted(root.rglob("*.png")):
        if set(path.relative_to(root).parts) & set(NOT_PHOTOGRAPHS) or "_mirror" in path.stem:
            continue
        text = path.with_suffix(".txt")
        first = text.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0] if text.is_file() else ""
        found.append((object_name(first, path.stem), path))
    if not found:
        raise ProbeBuildError(f"{root} holds no stamp: install tuxpaint-stamps-default again")
    return found


def _patterns(sources: Sources) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package in ("gimp-data", "gimp-data-extras"):
        root = sources.folder(package, "usr/share/gimp/2.0/patterns", "usr/share/gimp/3.0/patterns")
        found |= {path.stem: path for path in sorted(root.rglob("*.pat"))}
    # Nearly empty ones show nothing of a material.
    return {stem: found[stem] for stem in sorted(found) if not stem.startswith("Stripes")}


def _scenes(sources: Sources) -> list[tuple[str, Path]]:
    files: dict[str, Path] = {}
    for package, below in (
        ("tuxpaint-data", "usr/share/tuxpaint"),
        ("mate-backgrounds", "usr/share/backgrounds"),
        ("lomiri-wallpapers-16.04", "usr/share/backgrounds"),
    ):
        root = sources.folder(package, below)
        files |= {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")}
    found = [(name, files[stem]) for name, stems in SCENES.items() for stem in stems if stem in files]
    if not found:
        raise ProbeBuildError("none of the scenes was found: install tuxpaint-data and mate-backgrounds again")
    return found


def _object(rng: np.random.Generator, name: str, path: Path, grounds: list[tuple[str, Path]]) -> Picture:
    stamp = _opened(path).convert("RGBA")
    stamp = stamp.crop(stamp.getchannel("A").getbbox() or (0, 0, *stamp.size))
    scale = IMAGE_SIDE * rng.uniform(0.5, 0.95) / max(stamp.size)
    width, height = (max(4, round(side * scale)) for side in stamp.size)
    stamp = stamp.resize((width, height), _BILINEAR)
    if rng.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    material, pattern = grounds[rng.integers(len(grounds))]
    plain = rng.random() < 0.4
    ground = Image.fromarray(_soft_ground(rng) if plain else _crop(pattern, rng))
    place = (int(rng.integers(0, IMAGE_SIDE - width + 1)), int(rng.integers(0, IMAGE_SIDE - height + 1)))
    ground.paste(stamp, place, stamp)
    alpha = Image.new("L", ground.size)
    alpha.paste(stamp.getchannel("A"), place)
    mask = _half(np.asarray(alpha) > 127)
    masks = {"object": {name: mask}}
    if material and not plain:
        masks["material"] = {material: ~mask}
    return Picture("object", np.asarray(ground), masks)


def _material(rng: np.random.Generator, name: str, path: Path) -> Picture:
    everywhere = np.ones((MASK_SIDE, MASK_SIDE), dtype=bool)
    light = rng.uniform(0.75, 1.15)
    image = np.clip(_crop(path, rng).astype(np.float32) * light, 0, 255).astype(np.uint8)
    return Picture("material", image, {"material": {name: everywhere}})


def _texture(rng: np.random.Generator, name: str) -> Picture:
    return Picture("texture", draw_texture(name, IMAGE_SIDE, rng), whole={"texture": name})


def _drawing(rng: np.random.Generator, name: str) -> Picture:
    sketch = draw_thing(name, IMAGE_SIDE, rng)
    masks = {
        category: {label: _half(np.asarray(mask)) for label, mask in found.items()}
        for category, found in (("object", sketch.objects), ("part", sketch.parts))
    }
    return Picture("drawing", np.asarray(sketch.image), masks)


def _scene(rng: np.random.Generator, name: str, path: Path) -> Picture:
    picture = _opened(path, draft=4 * IMAGE_SIDE).convert("RGB")
    side = int(min(picture.size) * rng.uniform(0.6, 1.0))
    left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
    picture = picture.resize(
        (IMAGE_SIDE, IMAGE_SIDE), _BILINEAR, box=(left, top, left + side, top + side), reducing_gap=2
    )
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Picture("scene", np.asarray(picture), whole={"scene": name})


def _crop(path: Path, rng: np.random.Generator) -> np.ndarray:
    """A random square of a pattern; patterns are made to tile."""
    pixels = read_pattern(path)
    side = int(rng.integers(80, 200))
    repeat = [-(-2 * side // length) for length in pixels.shape[:2]]
    tiled = np.tile(pixels, (*repeat, 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in tiled.shape[:2])
    crop = Image.fromarray(tiled[top : top + side, left : left + side])
    return np.asarray(crop.resize((IMAGE_SIDE, IMAGE_SIDE), _BILINEAR))


def _soft_ground(rng: np.random.Generator) -> np.ndarray:
    first, second = rng.uniform(30, 255, 3), rng.uniform(30, 255, 3)
    field_of_light = fields.noise(rng, IMAGE_SIDE, int(rng.integers(1, 4)))[..., None]
    return (first + (second - first) * field_of_light).astype(np.uint8)


def _half(mask: np.ndarray) -> np.ndarray:
    """A mask at half the size: pixels of which at least half is covered."""
    side = len(mask) // 2
    return mask.reshape(side, 2, side, 2).mean(axis=(1, 3)) >= 0.5


def _opened(path: Path, draft: int = 0) -> Image.Image:
    try:
        with Image.open(path) as opened:
            if draft:
                opened.draft("RGB", (draft, draft))
            if opened.size[0] * opened.size[1] > _MOST_PIXELS:
                raise ProbeBuildError(f"{path} has {opened.size[0]}×{opened.size[1]} pixels: no picture of this set")
            opened.load()
            return opened.convert("RGBA") if opened.mode == "P" else opened.copy()
    except (OSError, SyntaxError) as error:
        raise ProbeBuildError(f"{path} cannot be read ({error}): install its package again") from error


def pictures(plan: Plan, seed: int = 0) -> Iterator[Picture]:
    """Draws the plan in an order of its own, so that the first n pictures are a fair sample of all.

    Every picture has its own source of chance: one more or one fewer changes no other.
    """
    order = np.random.default_rng(seed).permutation(len(plan.draw))
    for place in order.tolist():
        yield plan.draw[place](np.random.default_rng([seed, place]))
