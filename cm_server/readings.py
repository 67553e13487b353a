"""What is read off each live unit of a layer, block by block: no second matrix of all units by all words is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from cm_server.calibration import LayerCalibration, ProbeContext
from cm_server.core import embedding, ranking
from cm_server.core.levels import to_levels
from cm_server.detectors.base import Examination
from cm_server.report import TOP_CONCEPTS, TOP_SAMPLES
from cm_server.vocabulary import Vocabulary

_BLOCK = 2**21
"""Similarities that are worked on at once: 8 MB, and a few times that for what is made of them."""
_WHOLE = 2**26
"""Similarities that a detector which compares units may hold at once (256 MB) before it is asked for blocks."""


@dataclass(frozen=True)
class UnitReadings:
    """One row per live unit.

    Attributes:
        concepts, similarities: ``[M, TOP_CONCEPTS]``, best first.
        embeddings: u ``[M, D]``.
        positions: ``[M, 2]`` on the map.
        words: ``[M]`` effective number of words.
        samples, activations: ``[M, TOP_SAMPLES]``, highest-activating images.
        null: ``[M]`` the 95th percentile of the best similarity of a unit with these values on shuffled images.
        tau: ``[M]`` the threshold in force, max(the user's, ``null``).
        margin: ``[M]`` best similarity minus ``null``.
        levels, ends: all similarities, as `core.levels` keeps them; None where they are not kept.
    """

    concepts: Tensor
    similarities: Tensor
    embeddings: Tensor
    positions: Tensor
    words: Tensor
    samples: Tensor
    activations: Tensor
    null: Tensor
    tau: Tensor
    margin: Tensor
    levels: Tensor | None = None
    ends: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """What is stored per unit, by the name it has in `LayerArrays`."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("words", "null")}
        return {name: value for name, value in named.items() if value is not None}


def read_layer(
    activations: Tensor,
    context: ProbeContext,
    vocabulary: Vocabulary,
    calibration: LayerCalibration,
    tau: float,
    keep: bool = False,
) -> UnitReadings:
    """Reads a layer.

    Args:
        activations: ``[N, M]``, live units.
        context: the probe set.
        vocabulary: the words.
        calibration: of this layer's width.
        tau: the user's lowest similarity for *interpretable*.
        keep: whether all similarities are kept, for another T later.
    """
    units, start = activations.shape[1], 0
    whole: dict[str, Any] = {}
    for columns, similarity in _blocks(activations, context):
        null = context.null_of(columns, units)
        found = _read(columns, similarity, vocabulary, calibration, tau, null, keep)
        for f in fields(UnitReadings):
            part = getattr(found, f.name)
            if not start:
                # Room for all units at once: small results kept between large blocks would scatter the heap.
                whole[f.name] = None if part is None else part.new_empty(units, *part.shape[1:])
            if part is None or whole[f.name] is None:  # what some block lacks is not kept of any
                whole[f.name] = None
            else:
                whole[f.name][start : start + len(part)] = part
        start += columns.shape[1]
    return UnitReadings(**whole)


def read_examined(
    activations: Tensor,
    examined: Examination,
    vocabulary: Vocabulary,
    calibration: LayerCalibration,
    tau: float,
    keep: bool = False,
) -> UnitReadings:
    """Reads a layer that a detector with labels of its own has examined.

    Args:
        activations: ``[N, M]``, live units, pooled.
        examined: what it found in them.
        vocabulary: the words.
        calibration: of this layer's width.
        tau: the user's lowest similarity for *interpretable*.
        keep: whether all similarities are kept; never where the detector places units by itself.
    """
    null = activations.new_full((activations.shape[1],), examined.null)
    keep = keep and examined.embeddings is None
    found = _read(activations, examined.similarity, vocabulary, calibration, tau, null, keep)
    return found if examined.embeddings is None else replace(found, embeddings=examined.embeddings)


def _blocks(activations: Tensor, context: ProbeContext) -> Iterator[tuple[Tensor, Tensor]]:
    """Columns of some units and their similarities ``[m, K]``."""
    columns = activations.split(max(1, _BLOCK // context.image_text.shape[1]), dim=1)
    if not context.compares_units:
        yield from ((block, context.similarity(block)) for block in columns)
        return
    in_blocks = getattr(context.similarity, "in_blocks", None)
    if in_blocks is not None and activations.shape[1] * context.image_text.shape[1] > _WHOLE:
        yield from zip(columns, in_blocks(activations, columns[0].shape[1]), strict=True)
        return
    whole = context.similarity(activations)
    yield from zip(columns, whole.split([block.shape[1] for block in columns]), strict=True)


def _read(
    activations: Tensor,
    similarity: Tensor,
    vocabulary: Vocabulary,
    calibration: LayerCalibration,
    tau: float,
    null: Tensor,
    keep: bool,
) -> UnitReadings:
    text = vocabulary.text.to(similarity)
    units, words = embedding.embeddings_and_words(similarity, text, calibration.temperature)
    concepts, similarities = ranking.top_concepts(similarity, TOP_CONCEPTS)
    samples, strengths = ranking.top_samples(activations, TOP_SAMPLES)
    null = null.to(similarity.dtype)
    levels, ends = to_levels(similarity) if keep and bool(similarity.isfinite().all()) else (None, None)
    return UnitReadings(
        concepts=concepts,
        similarities=similarities,
        embeddings=units,
        positions=vocabulary.place(similarity, calibration.map_temperature),
        words=words,
        samples=samples,
        activations=strengths,
        null=null,
        tau=null.nan_to_num(nan=tau).clamp_min(tau),
        margin=similarities[:, 0] - null,
        levels=levels,
        ends=ends,
    )
