"""Writing Broden's folder format: index.csv, label.csv, category.csv, c_<category>.csv and images/."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cm_server.probes.colours import COLOURS, colour_names
from cm_server.probes.pictures import IMAGE_SIDE, MASK_SIDE, Picture

CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
_ENDINGS = {"color": "-c", "scene": "-s"}
_VALIDATION_EVERY = 4
_JPEG = {"quality": 90, "subsampling": 2, "optimize": False, "progressive": False}
_PNG = {"compress_level": 6, "optimize": False}


class BrodenWriter:
    """Takes pictures one by one and writes the lists at the end.

    Args:
        folder: exists and is empty.
        labels: the labels of every category but colour.
    """

    def __init__(self, folder: Path, labels: Mapping[str, Sequence[str]]) -> None:
        self._folder = folder
        self._numbers: dict[str, int] = {}
        by_category = {"color": COLOURS} | dict(labels)
        for category in CATEGORIES:
            for label in by_category[category]:
                self._numbers.setdefault(label + _ENDINGS.get(category, ""), len(self._numbers) + 1)
        self._images: dict[str, Counter[str]] = {category: Counter() for category in CATEGORIES}
        self._pixels: dict[str, Counter[str]] = {category: Counter() for category in CATEGORIES}
        self._total: Counter[str] = Counter()
        self._here: set[str] = set()
        self._rows: list[list[str]] = []
        self._colours = np.array([self._numbers[name + _ENDINGS["color"]] for name in COLOURS])

    @property
    def counts(self) -> dict[str, int]:
        """Labels that occur, by category."""
        return {category: len(found) for category, found in self._images.items()}

    def add(self, picture: Picture) -> None:
        """Writes one picture and its masks."""
        number = len(self._rows)
        stem = f"{picture.kind}/{number:05d}"
        (self._folder / "images" / picture.kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.image).save(self._folder / "images" / f"{stem}.jpg", **_JPEG)
        cells = dict.fromkeys(CATEGORIES, "") | {"color": self._write_colours(picture, stem)}
        for category, masks in picture.masks.items():
            cells[category] = self._write_masks(category, masks, stem)
        for category, label in picture.whole.items():
            name = label + _ENDINGS.get(category, "")
            cells[category] = str(self._numbers[name])
            self._count(category, {name: MASK_SIDE**2})
        self._total.update(self._here)
        self._here.clear()
        split = "val" if number % _VALIDATION_EVERY == 0 else "train"
        sizes = [str(IMAGE_SIDE)] * 2 + [str(MASK_SIDE)] * 2
        self._rows.append([f"{stem}.jpg", split, *sizes, *(cells[category] for category in CATEGORIES)])

    def finish(self) -> None:
        """Writes the lists."""
        self._table("index.csv", ["image", "split", "ih", "iw", "sh", "sw", *CATEGORIES], self._rows)
        self._table("label.csv", ["number", "name", "category", "frequency", "coverage", "syns"], self._label_rows())
        ranges = []
        for category in CATEGORIES:
            names = sorted(self._images[category], key=self._numbers.__getitem__)
            numbers = [self._numbers[name] for name in names]
            images = sum(1 for row in self._rows if row[6 + CATEGORIES.index(category)])
            ranges.append([category, min(numbers, default=0), max(numbers, default=0), len(numbers), images])
            rows = [
                [code, self._numbers[name], name, self._images[category][name], self._coverage(category, name)]
                for code, name in enumerate(names, start=1)
            ]
            self._table(f"c_{category}.csv", ["code", "number", "name", "frequency", "coverage"], rows)
        self._table("category.csv", ["name", "first", "last", "count", "frequency"], ranges)

    def _count(self, category: str, pixels: Mapping[str, int]) -> None:
        self._images[category].update(pixels.keys())
        self._pixels[category].update(pixels)
        self._here.update(pixels)

    def _label_rows(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for name, number in self._numbers.items():
            found = {category: self._images[category][name] for category in CATEGORIES if self._images[category][name]}
            if found:
                shown = ";".join(f"{c}({n})" for c, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))
                pixels = sum(self._pixels[category][name] for category in found)
                rows.append([number, name, shown, self._total[name], f"{pixels / MASK_SIDE**2:.6f}", ""])
        return rows

    def _coverage(self, category: str, name: str) -> str:
        return f"{self._pixels[category][name] / MASK_SIDE**2:.6f}"

    def _write_colours(self, picture: Picture, stem: str) -> str:
        small = Image.fromarray(picture.image).resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX)
        terms = colour_names(np.asarray(small))
        here = np.bincount(terms.ravel(), minlength=len(COLOURS))
        self._count("color", {f"{COLOURS[i]}-c": int(n) for i, n in enumerate(here) if n})
        return self._png(f"{stem}_color.png", self._colours[terms])

    def _write_masks(self, category: str, masks: Mapping[str, np.ndarray], stem: str) -> str:
        numbers = np.zeros((MASK_SIDE, MASK_SIDE), dtype=np.int64)
        for label, mask in masks.items():
            numbers[mask] = self._numbers[label]
        present = {label: int((numbers == self._numbers[label]).sum()) for label in masks}
        self._count(category, {label: pixels for label, pixels in present.items() if pixels})
        return self._png(f"{stem}_{category}.png", numbers)

    def _png(self, path: str, numbers: np.ndarray) -> str:
        pixels = np.zeros((*numbers.shape, 3), dtype=np.uint8)
        pixels[..., 0], pixels[..., 1] = numbers % 256, numbers // 256
        Image.fromarray(pixels).save(self._folder / "images" / path, **_PNG)
        return path

    def _table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        with (self._folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
