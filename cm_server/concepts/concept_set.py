"""Reading a concept set: the shipped list of about 1,200 words, common English words, or a file of the user's own.

A file holds one word a line, optionally a comma or a tab and its category; a first line ``word,category`` is a header,
blank lines and lines that begin with ``#`` are skipped, wherever they stand. The anchors of d_anchor (paper Eq. 2) are
the concept words by default.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from cm_server.concepts.common_words import CommonWordsError, common_words

log = logging.getLogger(__name__)

CATEGORIES = ("color", "texture", "material", "part", "object", "scene")
SHIPPED_NAME = "concept-monitor"
COMMON_NAME = "common-words"
_SHIPPED_FILE = "concepts.csv"
_HEADERS = (["word"], ["concept"], ["word", "category"], ["concept", "category"])
_EXAMPLES = 5


class ConceptFileError(ValueError):
    """A concept file cannot be used; the message names the file, the line, the value and the cure in one line."""


@dataclass(frozen=True)
class ConceptSet:
    """K concept words in a fixed order, each with its category where that is known.

    Attributes:
        name: ``concept-monitor`` for the shipped set, else the file's name without its ending.
        words: K unique, non-empty words.
        categories: For each word one of `CATEGORIES`, or None.

    Raises:
        ValueError: If the two tuples differ in length.
    """

    name: str
    words: tuple[str, ...]
    categories: tuple[str | None, ...]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.categories):
            raise ValueError(
                f"concept set {self.name!r} has {len(self.words)} words and {len(self.categories)} categories; "
                "give one category (or None) per word"
            )

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over words and categories in order; the name does not enter."""
        total = hashlib.sha256()
        for word, category in zip(self.words, self.categories, strict=True):
            total.update(f"{word}\t{category or ''}\n".encode())
        return total.hexdigest()


def load_concepts(path: str | Path | None = None) -> ConceptSet:
    """Read a concept set.

    Repeated words are dropped, the first kept, and counted in one warning; case, white space, hyphens and apostrophes
    make no difference (``T-shirt``, ``t shirt`` and ``tshirt`` are one word).

    Args:
        path: The file; None reads the shipped set; ``common-words`` or ``common-words:N`` takes the 20,000 or N most
            frequent English words (`common_words`).

    Returns:
        The words as written, white space folded, in the file's order.

    Raises:
        ConceptFileError: If the file is missing, not UTF-8 text, has no word or too many columns, or names a category
            that is not in `CATEGORIES`; or if the number of common words is not one.
    """
    if str(path).split(":")[0] == COMMON_NAME:
        return _common(str(path))
    if path is None:
        text = resources.files(__package__ or "cm_server.concepts").joinpath(_SHIPPED_FILE).read_text(encoding="utf-8")
        return _parse(text, SHIPPED_NAME, _SHIPPED_FILE)
    path = Path(path)
    return _parse(_read(path), path.stem, str(path))


def _common(spec: str) -> ConceptSet:
    number = spec.partition(":")[2]
    try:
        words = common_words(int(number)) if number else common_words()
    except (ValueError, CommonWordsError) as error:
        reason = str(error) if isinstance(error, CommonWordsError) else "the number is not a whole one"
        raise ConceptFileError(f"concept set {spec!r}: {reason}; give {COMMON_NAME} or {COMMON_NAME}:20000") from error
    return ConceptSet(f"{COMMON_NAME}-{len(words)}", words, (None,) * len(words))


def _read(path: Path) -> str:
    """Return the file's text; a byte order mark is taken off."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConceptFileError(f"concept file {path} does not exist; give an existing file, one word a line") from error
    except UnicodeDecodeError as error:
        raise ConceptFileError(
            f"concept file {path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConceptFileError(
            f"concept file {path} cannot be read ({error.strerror}); give a readable file"
        ) from error
    if "\0" in text:
        raise ConceptFileError(f"concept file {path} holds zero bytes, so it is not plain text; save it as UTF-8 text")
    return text


def _parse(text: str, name: str, file: str) -> ConceptSet:
    """Turn text into a concept set, keeping the first of repeated words."""
    kept: dict[str, tuple[str, str | None]] = {}
    repeated: list[str] = []
    for word, category in _entries(text.split("\n"), file):
        key = _folded(word)
        if key in kept:
            repeated.append(word)
        else:
            kept[key] = (word, category)
    if not kept:
        raise ConceptFileError(f"concept file {file} holds no word; give one word a line, optionally ',category'")
    if repeated:
        examples = ", ".join(repeated[:_EXAMPLES]) + (", …" if len(repeated) > _EXAMPLES else "")
        log.warning("concept file %s repeats %d word(s), the first of each is kept: %s", file, len(repeated), examples)
    words, categories = zip(*kept.values(), strict=True)
    return ConceptSet(name, words, categories)


def _folded(word: str) -> str:
    """What two spellings of one word share; the word itself where it holds nothing else."""
    return re.sub(r"[\s\-_'’]+", "", word.casefold()) or word


def _entries(lines: Iterable[str], file: str) -> Iterator[tuple[str, str | None]]:
    """Yield (word, category) of every line that holds a word."""
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = _cells(line, number, file)
        is_header = first and [cell.casefold() for cell in cells] in _HEADERS
        first = False
        if not is_header:
            yield _entry(cells, number, file)


def _cells(line: str, number: int, file: str) -> list[str]:
    """Split one line at tabs if it has one, else at commas (quotes respected); white space is folded in every cell."""
    delimiter = "\t" if "\t" in line.strip() else ","
    try:
        row = next(csv.reader([line.strip()], delimiter=delimiter))
    except csv.Error as error:
        raise ConceptFileError(f"concept file {file}, line {number}: {error}; give one word a line") from error
    return [" ".join(cell.split()) for cell in row]


def _entry(cells: list[str], number: int, file: str) -> tuple[str, str | None]:
    """Check one line's cells and return word and category."""
    if len(cells) > 2 and any(cells[2:]):
        raise ConceptFileError(
            f"concept file {file}, line {number}: {len(cells)} columns ({', '.join(cells)}); "
            "give 'word' or 'word,category'"
        )
    word = cells[0]
    category = cells[1].casefold() if len(cells) > 1 else ""
    if not word:
        raise ConceptFileError(f"concept file {file}, line {number}: no word before {cells[1]!r}; give 'word,category'")
    if category and category not in CATEGORIES:
        raise ConceptFileError(
            f"concept file {file}, line {number}: unknown category {cells[1]!r} of {word!r}; "
            f"use one of {', '.join(CATEGORIES)}"
        )
    return word, category or None
