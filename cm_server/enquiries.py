"""Answers to questions that belong to no run. Pure: what is known in, messages out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cm_client.protocol import limits
from cm_client.protocol.messages import NotReady, VocabularyChunk, VocabularyStart
from cm_server.encoders.base import Encoder
from cm_server.vocabulary import Vocabulary

_WORD_BYTES = limits.MAX_HEADER - 2048
"""For the words of one chunk; the rest of its header is small."""
_MOST_WORDS = 1024


def vocabulary_answer(vocabulary: Vocabulary | None, encoder: Encoder, known: Sequence[Any]) -> Iterator[Any]:
    """The words and their embeddings as messages, each within the limits.

    Args:
        vocabulary: None while it is being made.
        encoder: that made it.
        known: fingerprints the asker has already.
    """
    if vocabulary is None:
        yield NotReady("the server is laying out its words")
        return
    count, width = vocabulary.text.shape
    yield VocabularyStart(vocabulary.fingerprint, encoder.name, encoder.fingerprint, count, width)
    if vocabulary.fingerprint in known:
        return
    words, vectors = vocabulary.concepts.words, vocabulary.text.numpy()
    for start, stop in _ranges(words, limits.MAX_FRAME // vectors[0].nbytes):
        yield VocabularyChunk(vocabulary.fingerprint, start, list(words[start:stop]), vectors[start:stop])


def _ranges(words: Sequence[str], rows: int) -> Iterator[tuple[int, int]]:
    """Cuts the words where a header or a frame is full; a header takes any one word (`limits.MAX_TEXT`)."""
    start = room = 0
    for index, word in enumerate(words):
        size = len(word.encode()) + 5
        if index > start and (size > room or index - start >= min(rows, _MOST_WORDS)):
            yield start, index
            start = index
        room = (_WORD_BYTES if index == start else room) - size
    yield start, len(words)
