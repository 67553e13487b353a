"""Anchors that people add to a run: any word, wanted or undesirable, with its place in text space and on the map.

The encoder that placed the word is the server's, so the vector is kept: readers measure distances without an encoder,
also to neurons of the past.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

WISHES = ("wanted", "undesirable")
"""Units should not leave a wanted word, and should not near an undesirable one (`rules.words.AnchorApproach`)."""
MOST = 32
"""Anchors of one run: each costs a distance per unit and capture."""
LONGEST = 120
"""Characters of a word; longer texts are cut off by the encoders anyway."""


class AnchorError(ValueError):
    """An anchor cannot be added or removed; the message names the value and the cure."""


@dataclass(frozen=True)
class UserAnchor:
    """One anchor of a run.

    Attributes:
        run: run id.
        word: as typed, white space folded; unique in its run.
        wish: one of ``WISHES``.
        vector: ``[D]`` float32, unit length.
        place: on the run's frozen map.
        encoder: fingerprint of the encoder that made the vector; under another one it says nothing.
        author: who added it; may be empty.
        created: seconds since 1970.
    """

    run: str
    word: str
    wish: str
    vector: np.ndarray
    place: tuple[float, float]
    encoder: str
    author: str = ""
    created: float = 0.0


def folded(text: object) -> str:
    """A word as it is kept: white space folded.

    Raises:
        AnchorError: it is no text, empty or too long.

    Example:
        >>> folded("  striped   fur ")
        'striped fur'
    """
    if not isinstance(text, str):
        raise AnchorError(f"the word is {text!r}: give a text")
    word = " ".join(text.split())
    if not word:
        raise AnchorError("the word is empty: type one, for example: striped fur")
    if len(word) > LONGEST:
        raise AnchorError(f"the word has {len(word)} characters: give {LONGEST} at most")
    if not word.isprintable():
        raise AnchorError(f"the word {word!r} holds characters that cannot be shown: type plain text")
    return word


def wish_of(text: object) -> str:
    """A wish that is one.

    Raises:
        AnchorError: it is not.
    """
    if text not in WISHES:
        raise AnchorError(f"the wish is {str(text)[:40]!r}: choose one of {', '.join(WISHES)}")
    return str(text)


def words_of(anchors: Iterable[UserAnchor], wish: str) -> tuple[str, ...]:
    """The words of one wish, in the order of the anchors."""
    return tuple(anchor.word for anchor in anchors if anchor.wish == wish)


class AnchorBook:
    """Every run's anchors, shared between the server's loop, which changes them, and its analysis thread."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[UserAnchor, ...]] = {}

    def put(self, run: str, anchors: Iterable[UserAnchor]) -> None:
        """Replaces a run's anchors, in one step for whoever reads."""
        self._runs[run] = tuple(anchors)

    def of(self, run: str, encoder: str) -> tuple[UserAnchor, ...]:
        """A run's anchors that were placed by this encoder (its fingerprint); others say nothing in its space."""
        return tuple(anchor for anchor in self._runs.get(run, ()) if anchor.encoder == encoder)
