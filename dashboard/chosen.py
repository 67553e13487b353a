"""Anchor words that somebody types: their places by the store where it knows them, else by the server's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cm_server.report import ConceptMap
from dashboard.asking import Answer, Asking
from dashboard.data import RunData, Source


@dataclass(frozen=True)
class Anchor:
    """A word in text space.

    Attributes:
        word: as typed.
        vector: ``[D]``, unit length.
        star: its place on the run's map; None where that is not known.
    """

    word: str
    vector: np.ndarray
    star: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chosen:
    """What became of the typed words: ``missing`` says why some have no place; ``asking``: the server may yet know."""

    anchors: tuple[Anchor, ...] = ()
    missing: str = ""
    asking: bool = False


NO_TEXT = "This store was written by an older server, which did not keep the words' embeddings. Start a new one on it."


def choose(words: Sequence[str], data: RunData, source: Source, asking: Asking) -> Chosen:
    """Finds the words' places."""
    reader = source.reader()
    text = reader.text(data.info.map_fingerprint) if reader else None
    if not words or text is None:
        return Chosen(missing=NO_TEXT if words else "")
    vocabulary, layout = source.words(data)[0], source.concept_map(data)
    found: list[Anchor] = []
    missing: list[str] = []
    asked = False
    for word in words:
        if word in vocabulary:
            found.append(_known(word, vocabulary.index(word), text, layout))
            continue
        answer = asking.near(data.info, word)
        if isinstance(answer, Answer) and answer.vector.shape == text.shape[1:]:
            found.append(Anchor(word, answer.vector, answer.place))
        elif answer is None:
            asked = True
            missing.append(f"Asking the server where “{word}” lies …")
        else:
            reason = answer if isinstance(answer, str) else "The server's encoder is not the run's"
            missing.append(f"“{word}” is not among this run's {len(vocabulary):,} words. {reason}.")
    return Chosen(tuple(found), " ".join(missing), asked)


def _known(word: str, index: int, text: np.ndarray, layout: ConceptMap | None) -> Anchor:
    if layout is None:
        return Anchor(word, text[index])
    x, y = layout.positions[index]
    return Anchor(word, text[index], (float(x), float(y)))
