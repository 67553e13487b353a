"""One capture to one report: detector, weights, d_anchor, ranking, map. A chain of pure functions."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.cache import fingerprint
from cm_server.calibration import LayerCalibration, ProbeContext
from cm_server.core import approach, diversity, embedding, ranking, significance
from cm_server.core.assembly import Capture
from cm_server.core.similarity import live_units
from cm_server.index import nearest_units
from cm_server.report import TOP_CONCEPTS, TOP_SAMPLES, LayerArrays, LayerReport, LayerSummary, SnapshotReport
from cm_server.vocabulary import Vocabulary


@dataclass(frozen=True)
class Analysis:
    """Everything that stays the same for all captures of a run.

    Attributes:
        context: the probe set.
        vocabulary: the words.
        calibrations: by layer.
        tau: the user's lowest similarity for *interpretable*; the calibrated null counts where it is higher.
        watched: words whose distance from the nearest units is followed; those that are no concept are passed over.
    """

    context: ProbeContext
    vocabulary: Vocabulary
    calibrations: Mapping[str, LayerCalibration]
    tau: float
    watched: tuple[str, ...] = ()


def analyse(
    run: str,
    capture: Capture,
    analysis: Analysis,
    previous: SnapshotReport | None,
    received_at: float,
    epoch: str = "",
) -> SnapshotReport:
    """Analyses one capture.

    Args:
        run: run id.
        capture: activations ``[N, M]`` by layer.
        analysis: the run's fixed part.
        previous: the report before, for how far each unit moved.
        received_at: server's clock when the capture was complete.
        epoch: the training process it came from.
    """
    seconds: dict[str, float] = {}
    layers: dict[str, LayerReport] = {}
    for name, values in capture.activations.items():
        started = time.perf_counter()
        before = previous.layers.get(name) if previous else None
        layers[name] = analyse_layer(name, torch.from_numpy(values), analysis, before)
        seconds[name] = time.perf_counter() - started
    return SnapshotReport(run, capture.capture, capture.step, capture.time, received_at, layers, seconds, epoch)


def analyse_layer(name: str, activations: Tensor, analysis: Analysis, before: LayerReport | None) -> LayerReport:
    """One layer of a capture.

    Args:
        name: module path.
        activations: ``[N, M]``.
        analysis: the run's fixed part.
        before: this layer's previous report.
    """
    context, calibration = analysis.context, analysis.calibrations[name]
    activations = activations.to(context.image_text.device)
    live = live_units(activations)
    if not live.any():
        return LayerReport(_summary(name, activations, live, analysis, None), _dead_arrays(activations, analysis))
    lively = activations[:, live]
    similarity = context.similarity(lively)
    tau_null = significance.null_threshold(context.similarity, lively)
    weights = embedding.concept_weights(similarity, calibration.temperature)
    found = _Found(similarity, weights, weights @ analysis.vocabulary.text.to(weights.device), tau_null)
    summary = _summary(name, activations, live, analysis, found)
    if before is not None and before.summary.fingerprint != summary.fingerprint:
        before = None  # u of another encoder, word list or probe set: how far a unit moved cannot be said
    return LayerReport(summary, _arrays(activations, live, found, analysis, calibration, before))


@dataclass(frozen=True)
class _Found:
    """Live units only: similarity and weights ``[M', K]``, embeddings ``[M', D]``."""

    similarity: Tensor
    weights: Tensor
    embeddings: Tensor
    tau_null: float


def _summary(name: str, activations: Tensor, live: Tensor, analysis: Analysis, found: _Found | None) -> LayerSummary:
    context, vocabulary, calibration = analysis.context, analysis.vocabulary, analysis.calibrations[name]
    measured = _measured(found, analysis) if found else _NOTHING
    images, units = activations.shape
    return LayerSummary(
        layer=name,
        units=units,
        live=int(live.sum()),
        centroid_baseline=float(context.to_centroid.double().mean()),
        temperature=calibration.temperature,
        probes=images,
        concepts=len(vocabulary.text),
        anchors=len(vocabulary.anchors),
        fingerprint=fingerprint(context.fingerprint, name, units, calibration.temperature),
        ideal=calibration.scale.ideal,
        chance=calibration.scale.chance,
        nonfinite=int((~torch.isfinite(activations)).any(dim=0).sum()),
        kind=context.kind,
        images=context.probe_fingerprint if context.kind == "stream" else "",
        map_temperature=calibration.map_temperature,
        **measured,
    )


_NOTHING = {
    "d_anchor": math.nan,
    "coverage": 0.0,
    "distinct": 0,
    "pairwise": math.nan,
    "effective_words": math.nan,
    "interpretable": 0,
    "tau": math.nan,
    "tau_null": math.nan,
    "categories": {},
}


def _measured(found: _Found, analysis: Analysis) -> dict:
    anchors = analysis.vocabulary.anchor_text.to(found.embeddings.device)
    nearest, _ = nearest_units(found.embeddings, anchors)
    tau = max(analysis.tau, found.tau_null)
    best = found.similarity.max(dim=1)
    interpretable = best.indices[best.values > tau]
    categories = analysis.vocabulary.concepts.categories
    return {
        "d_anchor": float(nearest.double().mean()),
        "coverage": diversity.coverage(nearest, analysis.context.to_centroid.to(nearest.device)),
        "distinct": diversity.distinct_concepts(interpretable),
        "pairwise": diversity.pairwise_distance(found.embeddings),
        "effective_words": float(embedding.effective_words(found.weights).median()),
        "interpretable": len(interpretable),
        "tau": tau,
        "tau_null": found.tau_null,
        "categories": dict(Counter(categories[i] or "other" for i in interpretable.tolist())),
        "words": _watched(found, analysis),
    }


def _watched(found: _Found, analysis: Analysis) -> dict[str, float]:
    words = analysis.vocabulary.concepts.words
    places = {word: words.index(word) for word in analysis.watched if word in words}
    if not places:
        return {}
    text = analysis.vocabulary.text.to(found.embeddings.device)[list(places.values())]
    return dict(zip(places, approach.group_distance(found.embeddings, text).tolist(), strict=True))


def _arrays(
    activations: Tensor,
    live: Tensor,
    found: _Found,
    analysis: Analysis,
    calibration: LayerCalibration,
    before: LayerReport | None,
) -> LayerArrays:
    empty = _dead_arrays(activations, analysis).named()
    rows = live.cpu().numpy()
    concepts, similarities = ranking.top_concepts(found.similarity, TOP_CONCEPTS)
    samples, strengths = ranking.top_samples(activations[:, live], TOP_SAMPLES)
    filled = {
        "concepts": concepts,
        "similarities": similarities,
        "margin": similarities[:, 0] - found.tau_null,
        "embeddings": found.embeddings,
        "positions": analysis.vocabulary.place(found.similarity, calibration.map_temperature),
        "samples": samples,
        "activations": strengths,
    }
    for name, values in filled.items():
        empty[name][rows] = values.cpu().numpy()
    if before is not None and before.arrays.embeddings.shape == empty["embeddings"].shape:
        empty["shift"] = np.linalg.norm(empty["embeddings"] - before.arrays.embeddings, axis=1)
    return LayerArrays(**(empty | {"live": rows}))


def _dead_arrays(activations: Tensor, analysis: Analysis) -> LayerArrays:
    units = activations.shape[1]
    width = analysis.vocabulary.text.shape[1]
    return LayerArrays(
        live=np.zeros(units, dtype=bool),
        concepts=np.full((units, TOP_CONCEPTS), -1, dtype=np.int32),
        similarities=np.full((units, TOP_CONCEPTS), np.nan, dtype=np.float32),
        margin=np.full(units, np.nan, dtype=np.float32),
        embeddings=np.full((units, width), np.nan, dtype=np.float32),
        positions=np.full((units, 2), np.nan, dtype=np.float32),
        shift=np.full(units, np.nan, dtype=np.float32),
        samples=np.full((units, TOP_SAMPLES), -1, dtype=np.int32),
        activations=np.full((units, TOP_SAMPLES), np.nan, dtype=np.float32),
    )
