"""The words a server speaks of: embedded once, searchable, laid out once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cm_server import projections
from cm_server.cache import ArrayCache, fingerprint
from cm_server.concepts import ConceptSet
from cm_server.core.embedding import neuron_embeddings
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.report import ConceptMap

logger = logging.getLogger(__name__)

ALIKE = 0.9995
"""Words whose embeddings have this cosine are one word to the encoder."""
_EXAMPLES = 5


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
        map_fingerprint: those, the projection and how units are placed.
        placement: how units are placed, one of `projections.PLACEMENTS`.
    """

    concepts: ConceptSet
    text: Tensor
    anchors: np.ndarray
    index: VectorIndex
    layout: ConceptMap
    fingerprint: str
    map_fingerprint: str
    placement: str = "barycentric"

    @cached_property
    def anchor_text(self) -> Tensor:
        """``[A, D]``."""
        if np.array_equal(self.anchors, np.arange(len(self.text))):
            return self.text
        return self.text[torch.from_numpy(self.anchors.astype(np.int64))]

    def place(self, similarity: Tensor, temperature: float) -> Tensor:
        """Where units stand on the frozen map: same input, same place, whatever the batch.

        Args:
            similarity: ``[M, K]``.
            temperature: the map's T.

        Returns:
            ``[M, 2]``.
        """
        places = torch.from_numpy(self.layout.positions)
        if self.placement == "barycentric":
            return projections.place_units(similarity, places, temperature)
        units = neuron_embeddings(similarity, self.text.to(similarity), temperature)
        return projections.place_among_neighbours(units, self.index, places)


def build_vocabulary(
    encoder: Encoder, concepts: ConceptSet, projection: str, cache: ArrayCache, placement: str = "barycentric"
) -> Vocabulary:
    """Embeds and lays out the words, both from the cache where it has them.

    Args:
        encoder: text side of the embedding space.
        concepts: the words.
        projection: ``umap`` or ``pca``.
        cache: where embeddings and places are kept.
        placement: how units will be placed.

    Raises:
        ProjectionError: unknown projection or placement.
    """
    if placement not in projections.PLACEMENTS:
        raise projections.ProjectionError(
            f"placement {placement!r} is unknown: choose one of {', '.join(projections.PLACEMENTS)}"
        )
    key = fingerprint("text", encoder.fingerprint, concepts.fingerprint)
    text = torch.from_numpy(cache.get("text", key, lambda: _embedded(encoder, concepts)))
    index = VectorIndex(text, "cosine")
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
    return Vocabulary(concepts, text, anchors, index, layout, key, fingerprint("placed", map_key, placement), placement)


def _embedded(encoder: Encoder, concepts: ConceptSet) -> np.ndarray:
    text = encoder.encode_text(concepts.words)
    pairs = alike(text)
    if pairs:
        words = concepts.words
        examples = ", ".join(f"{words[a]} = {words[b]}" for a, b in pairs[:_EXAMPLES])
        logger.warning(
            "encoder %s cannot tell %d of the %d concept words from an earlier one (%s%s): which of them a unit gets is"
            " chance, so leave one of each out",
            encoder.name, len(pairs), len(words), examples, ", …" if len(pairs) > _EXAMPLES else "",
        )  # fmt: skip
    return text.numpy()


def alike(text: Tensor, cosine: float = ALIKE) -> list[tuple[int, int]]:
    """Words that have the same embedding as an earlier word.

    Args:
        text: ``[K, D]`` unit rows.
        cosine: from which on two are the same.

    Returns:
        pairs (earlier, later), one for each later word.
    """
    scores, found = VectorIndex(text, "cosine").search(text, 8)
    pairs = []
    for word, (near, at) in enumerate(zip(scores, found, strict=True)):
        earlier = at[(near >= cosine) & (at >= 0) & (at < word)]
        if len(earlier):
            pairs.append((int(earlier.min()), word))
    return pairs
