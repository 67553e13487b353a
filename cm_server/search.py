"""Asking a run in any words: which concepts, units and probe images lie nearest to a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex, nearest_units
from cm_server.vocabulary import Vocabulary


@dataclass(frozen=True)
class Hit:
    """Something near a query: ``index`` of the word, unit or image, its ``label``, and the ``score``.

    ``score`` is a cosine for words and images (higher is nearer, [-1, 1]) and a distance in text space for units and
    anchors (lower is nearer, [0, 2]).
    """

    index: int
    label: str
    score: float


def embed(query: str, encoder: Encoder, vocabulary: Vocabulary) -> Tensor:
    """The query in text space, ``[1, D]``; a concept word is not encoded again."""
    folded = query.strip().casefold()
    known = next((i for i, word in enumerate(vocabulary.concepts.words) if word.casefold() == folded), None)
    return encoder.encode_text([query.strip()]) if known is None else vocabulary.text[known : known + 1]


def nearest_concepts(query: Tensor, vocabulary: Vocabulary, count: int = 10) -> list[Hit]:
    """Concept words by cosine with the query ``[1, D]``, nearest first."""
    scores, found = vocabulary.index.search(query, count)
    words = vocabulary.concepts.words
    return [Hit(int(i), words[i], float(s)) for i, s in zip(found[0], scores[0], strict=True)]


def nearest_neurons(query: Tensor, embeddings: np.ndarray, layer: str, count: int = 10) -> list[Hit]:
    """Units of one layer by the distance of their u (Eq. 1) from the query, nearest first; dead ones are left out.

    Args:
        query: ``[1, D]``.
        embeddings: ``[M, D]``, NaN rows for dead units.
        layer: module path, for the labels ``layer4:373``.
        count: at most.
    """
    alive = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    if not len(alive):
        return []
    _, found = VectorIndex(torch.from_numpy(embeddings[alive]), "euclidean").search(query, count)
    units = alive[found[0]]
    # Again from the difference: FAISS's expanded squares lose small distances to cancellation.
    distances = np.linalg.norm(embeddings[units] - query.numpy(), axis=1)
    hits = [Hit(int(u), f"{layer}:{u}", float(d)) for u, d in zip(units, distances, strict=True)]
    return sorted(hits, key=lambda hit: hit.score)


def nearest_images(query: Tensor, images: VectorIndex, count: int = 10) -> list[Hit]:
    """Probe images by cosine with the query ``[1, D]``, nearest first."""
    scores, found = images.search(query, count)
    return [Hit(int(i), f"probe image {i}", float(s)) for i, s in zip(found[0], scores[0], strict=True)]


def anchors_neurons(vocabulary: Vocabulary, embeddings: np.ndarray, layer: str) -> list[tuple[str, Hit]]:
    """Each anchor's nearest unit: the distances that d_anchor (Eq. 2) is the mean of.

    Args:
        vocabulary: the anchors.
        embeddings: ``[M, D]``, NaN rows for dead units.
        layer: module path, for the labels.

    Returns:
        (anchor word, its nearest unit), in the anchors' order; empty where no unit lives.
    """
    alive = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    if not len(alive):
        return []
    distances, found = nearest_units(torch.from_numpy(embeddings[alive]), vocabulary.anchor_text)
    words = [vocabulary.concepts.words[a] for a in vocabulary.anchors]
    nearest = zip(words, alive[found.numpy()], distances.tolist(), strict=True)
    return [(word, Hit(int(unit), f"{layer}:{unit}", distance)) for word, unit, distance in nearest]
