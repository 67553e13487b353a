"""Reading a labelled segmentation set in Broden's folder format (Bau et al. 2017), the real one or a built one.

``label.csv`` (``number,name,category,frequency,coverage,syns``) names the labels, ``index.csv``
(``image,split,ih,iw,sh,sw,<category>,…``) the images; a category's cell holds, joined by ``;``, PNG masks below
``images/`` and numbers of labels that hold for the whole image. A mask's pixel is its label's number, R + 256·G; 0 is
no label. Colours and scenes end in ``-c`` and ``-s`` in Broden; these endings are no part of the word.

This module reads text only; masks are `broden_masks`' matter.
"""

from __future__ import annotations

import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cm_server.concepts.concept_set import CATEGORIES, ConceptFileError, ConceptSet

log = logging.getLogger(__name__)

HIGHEST_NUMBER = 65_535
"""Masks hold numbers in two bytes."""
_FIXED_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")
_CATEGORY = re.compile(r"\s*([a-z][a-z_ -]*?)\s*(?:\(\s*(\d+)\s*\))?\s*")
_SUFFIXES = {"color": "-c", "scene": "-s"}
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class BrodenLabel:
    """One row of ``label.csv``.

    Attributes:
        number: as in masks, 1 to 65,535.
        name: as in the file.
        categories: category to the number of images that have the label in it, most frequent first.
        coverage: pixel portions in all, NaN where the file has none.
    """

    number: int
    name: str
    categories: Mapping[str, int]
    coverage: float = math.nan

    @property
    def category(self) -> str:
        """The category in which the label occurs most."""
        return next(iter(self.categories))

    @property
    def word(self) -> str:
        """The name without Broden's ending for colours and scenes, ``_`` as blanks.

        Example:
            >>> BrodenLabel(10, "red-c", {"color": 289}).word
            'red'
        """
        suffix = _SUFFIXES.get(self.category, "")
        name = self.name.removesuffix(suffix) if suffix else self.name
        return " ".join(name.replace("_", " ").split())


@dataclass(frozen=True)
class BrodenImage:
    """One row of ``index.csv``.

    Attributes:
        path: below the set's ``images`` folder.
        split: ``train`` or ``val``.
        mask_size: height and width of the masks.
        masks: by category, the paths of mask files below ``images``.
        whole: by category, numbers of labels that hold for the whole image.
    """

    path: str
    split: str
    mask_size: tuple[int, int]
    masks: Mapping[str, tuple[str, ...]]
    whole: Mapping[str, tuple[int, ...]]

    @property
    def categories(self) -> frozenset[str]:
        """The categories in which this image is labelled at all."""
        return frozenset(self.masks) | frozenset(self.whole)


@dataclass(frozen=True)
class Broden:
    """A set: labels by rising number, images in the file's order."""

    directory: Path
    labels: tuple[BrodenLabel, ...]
    images: tuple[BrodenImage, ...]

    def image_path(self, image: BrodenImage) -> Path:
        """Where the picture lies."""
        return self.directory / "images" / image.path

    def concepts(self) -> ConceptSet:
        """The labels as concept words, one each and in order; a word that stands for two labels names its category.

        A category outside of `CATEGORIES` (Broden-like sets may have any) becomes None.
        """
        count = Counter(label.word.casefold() for label in self.labels)
        words = [label.word if count[label.word.casefold()] == 1 else _told_apart(label) for label in self.labels]
        again = Counter(word.casefold() for word in words)
        words = [
            word if again[word.casefold()] == 1 else f"{word} {label.number}"
            for word, label in zip(words, self.labels, strict=True)
        ]
        categories = [label.category if label.category in CATEGORIES else None for label in self.labels]
        return ConceptSet(f"broden:{self.directory.name}", tuple(words), tuple(categories))


def _told_apart(label: BrodenLabel) -> str:
    return f"{label.word} ({label.category})"


def is_broden(directory: Path) -> bool:
    """Whether the folder looks like a set of this format."""
    return (directory / "index.csv").is_file() and (directory / "label.csv").is_file()


def load_broden(directory: str | Path, split: str | None = None) -> Broden:
    """Reads labels and index.

    Rows without a name or a number (number 0 is "no label") are left out and counted in one warning.

    Args:
        directory: holds ``index.csv``, ``label.csv`` and ``images/``.
        split: keep only these images, ``train`` or ``val``; None keeps all.

    Raises:
        ConceptFileError: a file is missing or unreadable, a column is missing, a value is not what its column holds,
            or nothing is left; the text names file, line and value.
    """
    directory = Path(directory)
    if not is_broden(directory):
        raise ConceptFileError(
            f"{directory} is no set in Broden's format (no index.csv and label.csv in it): give the folder that "
            "`concept-monitor probe build` wrote, or the unpacked broden1_224"
        )
    labels = load_labels(directory / "label.csv")
    images = tuple(_images(directory / "index.csv", {label.number for label in labels}, split))
    if not images:
        raise ConceptFileError(
            f"{directory / 'index.csv'} lists no image" + (f" of split {split!r}: train or val?" if split else "")
        )
    return Broden(directory, labels, images)


def load_labels(path: str | Path) -> tuple[BrodenLabel, ...]:
    """Reads a ``label.csv`` by itself.

    Raises:
        ConceptFileError: see `load_broden`.
    """
    path = Path(path)
    found: dict[int, BrodenLabel] = {}
    junk = 0
    for line, row in _rows(path, ("number", "name", "category")):
        number, name = _number(row["number"], path, line, "number"), " ".join(row["name"].split())
        if number == 0 or not name.strip("-"):
            junk += 1
        elif number > HIGHEST_NUMBER or number in found:
            why = "stands twice" if number in found else f"is above {HIGHEST_NUMBER}, which no mask can hold"
            raise ConceptFileError(f"{path}, line {line}: label number {number} ({name!r}) {why}")
        else:
            categories = _categories(row["category"], path, line)
            found[number] = BrodenLabel(number, name, categories, _coverage(row.get("coverage")))
    if junk:
        log.info("%s: %d row(s) without a name or a number above 0 were left out", path, junk)
    if not found:
        raise ConceptFileError(f"{path} holds no label: rows are number,name,category,frequency,coverage,syns")
    return tuple(found[number] for number in sorted(found))


def _categories(cell: str, path: Path, line: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in filter(str.strip, cell.split(";")):
        match = _CATEGORY.fullmatch(part.lower())
        if match is None:
            raise ConceptFileError(f"{path}, line {line}: category {part!r}: give name(images), joined by ';'")
        counts[match[1]] = counts.get(match[1], 0) + int(match[2] or 0)
    if not counts:
        raise ConceptFileError(f"{path}, line {line}: no category; give name(images), for example object(12)")
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _images(path: Path, numbers: set[int], split: str | None) -> Iterator[BrodenImage]:
    for line, row in _rows(path, _FIXED_COLUMNS):
        if split is not None and row["split"] != split:
            continue
        if not _is_below(row["image"]):
            raise ConceptFileError(f"{path}, line {line}: image {row['image']!r} is not a path below images/")
        size = (_number(row["sh"], path, line, "sh"), _number(row["sw"], path, line, "sw"))
        masks: dict[str, tuple[str, ...]] = {}
        whole: dict[str, tuple[int, ...]] = {}
        for category in (name for name in row if name not in _FIXED_COLUMNS):
            cells = [cell.strip() for cell in row[category].split(";") if cell.strip()]
            labels = tuple(_known(int(cell), numbers, path, line) for cell in cells if cell.isdecimal())
            files = tuple(cell for cell in cells if not cell.isdecimal())
            if bad := next((file for file in files if not _is_below(file)), None):
                raise ConceptFileError(f"{path}, line {line}: mask {bad!r} is not a path below images/")
            masks |= {category: files} if files else {}
            whole |= {category: labels} if labels else {}
        yield BrodenImage(row["image"], row["split"], size, masks, whole)


def _known(number: int, numbers: set[int], path: Path, line: int) -> int:
    if number not in numbers:
        raise ConceptFileError(f"{path}, line {line}: label number {number} is not in label.csv: are they of one set?")
    return number


def _is_below(path: str) -> bool:
    """A relative path that stays below its folder: an index file must not make us open anything else."""
    parts = Path(path).parts
    return bool(parts) and not Path(path).is_absolute() and ".." not in parts and "\\" not in path


def _rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as dicts with their line numbers; blank lines are passed over wherever they stand."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConceptFileError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: it cannot be such a list")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            missing = [name for name in required if name not in header]
            if missing:
                raise ConceptFileError(f"{path} has no column {', '.join(missing)}: its first line names the columns")
            reader.fieldnames = header
            for row in reader:
                if None in row:
                    raise ConceptFileError(f"{path}, line {reader.line_num}: more cells than the header has columns")
                if any(value.strip() for value in row.values()):
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise ConceptFileError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise ConceptFileError(f"{path} is not a table of comma-separated values: {error}") from error
    except OSError as error:
        raise ConceptFileError(f"{path} cannot be read ({error.strerror})") from error


def _number(cell: str, path: Path, line: int, column: str) -> int:
    if not cell.strip().isdecimal():
        raise ConceptFileError(f"{path}, line {line}: {column} is {cell!r}: give a whole number from 0")
    return int(cell)


def _coverage(cell: str | None) -> float:
    try:
        return float(cell or math.nan)
    except ValueError:
        return math.nan
