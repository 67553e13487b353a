"""The words a server speaks of: embedded once, searchable, laid out once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server import projections
from cm_server.cache import ArrayCache, fingerprint
from cm_server.concepts import ConceptSet
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.report import ConceptMap


@dataclass(frozen=True)
class Vocabulary:
    """Concept words in text space.

    Attributes:
        concepts: the words and their categories.
        text: ``[K, D]`` unit rows.
        anchors: indices of the anchor words; by default all of them (A = S).
        index: cosine search over ``text``.
        layout: the frozen map.
        fingerprint: encoder, words and anchors.
        map_fingerprint: those and the projection.
    """

    concepts: ConceptSet
    text: Tensor
    anchors: np.ndarray
    index: VectorIndex
    layout: ConceptMap
    fingerprint: str
    map_fingerprint: str

    @property
    def anchor_text(self) -> Tensor:
        """``[A, D]``."""
        return self.text[torch.from_numpy(self.anchors.astype(np.int64))]


def build_vocabulary(encoder: Encoder, concepts: ConceptSet, projection: str, cache: ArrayCache) -> Vocabulary:
    """Embeds and lays out the words, both from the cache where it has them.

    Args:
        encoder: text side of the embedding space.
        concepts: the words.
        projection: ``umap`` or ``pca``.
        cache: where embeddings and places are kept.

    Raises:
        ProjectionError: unknown projection.
    """
    key = fingerprint("text", encoder.fingerprint, concepts.fingerprint)
    text = torch.from_numpy(cache.get("text", key, lambda: encoder.encode_text(concepts.words).numpy()))
    anchors = np.arange(len(concepts.words), dtype=np.int32)
    map_key = fingerprint("map", key, projection)
    places = cache.get("map", map_key, lambda: projections.fit_words(text.numpy(), projection))
    layout = ConceptMap(
        words=tuple(concepts.words),
        categories=tuple(c or "" for c in concepts.categories),
        positions=places,
        anchors=anchors,
        extent=projections.extent(places),
        method=projection,
    )
    return Vocabulary(concepts, text, anchors, VectorIndex(text, "cosine"), layout, key, map_key)
