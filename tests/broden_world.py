"""A small labelled set with known answers, and maps of units that fire on its labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cm_server.encoders.planted import PLANTED_COLORS
from cm_server.probes.folder import BrodenWriter
from cm_server.probes.pictures import MASK_SIDE, Picture

WORDS = {"object": ("dog", "car", "guitar"), "material": ("brick", "denim"), "part": ("beak",)}
LABELS = tuple(word for words in WORDS.values() for word in words)
CELL = MASK_SIDE // 7
"""A label covers whole cells of a 7×7 map, so that a map can be exactly a label."""


def write_world(folder: Path, images: int = 120, each: int | None = None, seed: int = 0) -> np.ndarray:
    """A set of ``images`` pictures; each has up to two labels on squares; its colours are random.

    Args:
        folder: is made.
        images: how many.
        each: show every label on exactly so many pictures, and none on the others.
        seed: of everything.

    Returns:
        bool ``[images, labels, 7, 7]``: the cells of each label.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    writer = BrodenWriter(folder, WORDS | {"scene": (), "texture": ()})
    cells = np.zeros((images, len(LABELS), 7, 7), dtype=bool)
    for image in range(images):
        picture = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((28, 28, 1))).astype(np.uint8)
        masks: dict[str, dict[str, np.ndarray]] = {}
        drawn = rng.choice(len(LABELS), 2, replace=False)
        if each is not None:
            drawn = [image % len(LABELS)] if image < each * len(LABELS) else []
        for label in drawn:
            y, x = rng.integers(0, 6, 2)
            if cells[image, :, y : y + 2, x : x + 2].any():
                continue
            cells[image, label, y : y + 2, x : x + 2] = True
            word = LABELS[label]
            category = next(c for c, words in WORDS.items() if word in words)
            mask = np.kron(cells[image, label], np.ones((CELL, CELL))).astype(bool)
            masks.setdefault(category, {})[word] = mask
        writer.add(Picture("object", picture, masks))
    writer.finish()
    return cells


def write_coloured_world(folder: Path, images: int = 120) -> None:
    """As `write_world`, but a label's squares have its planted colour on grey, and colours are no labels: a network of
    colour detectors has known answers. Each label has just below half a percent of the cells, the unit's quantile."""
    cells = write_world(folder, images, each=int(0.005 * 49 * images / 4))
    for image in range(images):
        picture = np.full((224, 224, 3), 128, dtype=np.uint8)
        for label, word in enumerate(LABELS):
            picture[np.kron(cells[image, label], np.ones((32, 32))).astype(bool)] = PLANTED_COLORS[word]
        picture[:4, :4], picture[:4, 4:8] = image * 2, 255  # told apart by more than their squares
        path = folder / "images" / "object" / f"{image:05d}.jpg"
        Image.fromarray(picture).save(path, quality=98, subsampling=0)
    for name, keep in (("label.csv", lambda row: "color(" not in row["category"]), ("index.csv", lambda row: True)):
        with (folder / name).open(newline="") as file:
            rows = [row | ({"color": ""} if "color" in row else {}) for row in csv.DictReader(file) if keep(row)]
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def planted_maps(cells: np.ndarray, seed: int = 0) -> torch.Tensor:
    """A unit per label that fires on its cells, one that never fires, one at random; float16 ``[N, labels + 2, 7, 7]``.

    A few cells only fire strongly, so that half a percent of the positions lies above the threshold.
    """
    rng = np.random.default_rng(seed)
    images = len(cells)
    strength = cells * rng.uniform(0.5, 1.0, (images, cells.shape[1], 1, 1))
    maps = strength + 0.01 * rng.random(cells.shape)
    extra = np.stack([np.zeros((images, 7, 7)), rng.random((images, 7, 7))], axis=1)
    return torch.from_numpy(np.concatenate([maps, extra], axis=1)).half()
