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

from cm_server.anchors import UserAnchor
from cm_server.cache import fingerprint
from cm_server.calibration import LayerCalibration, ProbeContext
from cm_server.core import approach, diversity
from cm_server.core.assembly import Capture
from cm_server.core.significance import label_stability
from cm_server.core.similarity import live_units
from cm_server.detectors.base import Responses
from cm_server.readings import UnitReadings, read_examined, read_layer
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
        bootstrap: resampled probe sets by which the labels' stability is measured; 0: it is not.
        watched: words whose distance from the nearest units is followed; those that are no concept are passed over.
        anchors: words that people added to the run, followed like the watched ones.
        keep: whether all similarities of this capture are kept, so that d_anchor can be had at another T later.
    """

    context: ProbeContext
    vocabulary: Vocabulary
    calibrations: Mapping[str, LayerCalibration]
    tau: float
    bootstrap: int = 0
    watched: tuple[str, ...] = ()
    keep: bool = False
    anchors: tuple[UserAnchor, ...] = ()


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
        maps = torch.from_numpy(capture.maps[name]) if name in capture.maps else None
        layers[name] = analyse_layer(name, torch.from_numpy(values), analysis, before, maps)
        seconds[name] = time.perf_counter() - started
    return SnapshotReport(run, capture.capture, capture.step, capture.time, received_at, layers, seconds, epoch)


def analyse_layer(
    name: str, activations: Tensor, analysis: Analysis, before: LayerReport | None, maps: Tensor | None = None
) -> LayerReport:
    """One layer of a capture.

    Args:
        name: module path.
        activations: ``[N, M]``.
        analysis: the run's fixed part.
        before: this layer's previous report.
        maps: ``[N, M, h, w]``, where the detector asked for them.
    """
    activations = activations.to(analysis.context.image_text.device)
    live = live_units(activations)
    arrays = _dead_arrays(activations, analysis).named()
    if not live.any():
        return LayerReport(_summary(name, activations, live, analysis, _NOTHING), LayerArrays(**arrays))
    lively = activations if live.all() else activations[:, live]
    found, descriptions = _readings(name, lively, live, maps, analysis)
    rows = live.cpu().numpy()
    arrays["live"] = rows
    for field, values in found.named().items():
        column = values.cpu().numpy()
        if rows.all():
            arrays[field] = column
            continue
        if field not in arrays:
            arrays[field] = _blank(len(rows), column)
        arrays[field][rows] = column
    if analysis.bootstrap and analysis.context.detection is None:
        stable = label_stability(analysis.context.prepare, analysis.context.image_text, lively, analysis.bootstrap)
        arrays["stability"] = np.full(len(rows), np.nan, dtype=np.float32)
        arrays["stability"][rows] = stable.cpu().numpy()
    summary = _summary(name, activations, live, analysis, _measured(found, analysis))
    # u of another encoder, word list or probe set: how far a unit moved cannot be said
    if before is not None and before.summary.fingerprint == summary.fingerprint:
        arrays["shift"] = np.linalg.norm(arrays["embeddings"] - before.arrays.embeddings, axis=1)
    return LayerReport(summary, LayerArrays(**arrays), _of_all_units(descriptions, live))


def _blank(units: int, column: np.ndarray) -> np.ndarray:
    """Rows for all units, dead ones included: NaN, or 0 where the kind of number has no NaN."""
    nothing = np.nan if np.issubdtype(column.dtype, np.floating) else 0
    return np.full((units, *column.shape[1:]), nothing, dtype=column.dtype)


def _readings(
    name: str, lively: Tensor, live: Tensor, maps: Tensor | None, analysis: Analysis
) -> tuple[UnitReadings, tuple[str, ...]]:
    """What the detector finds in a layer's live units, and how it describes them."""
    context, words, calibration = analysis.context, analysis.vocabulary, analysis.calibrations[name]
    if context.detection is None:
        return read_layer(lively, context, words, calibration, analysis.tau, analysis.keep), ()
    units = live.nonzero().squeeze(1)
    seen = maps if maps is None or live.all() else maps[:, units.cpu()]
    examined = context.detection.examine(Responses(name, units, lively, seen))
    return read_examined(lively, examined, words, calibration, analysis.tau, analysis.keep), examined.descriptions


def _of_all_units(descriptions: tuple[str, ...], live: Tensor) -> tuple[str, ...]:
    """One for every unit of the layer, empty for dead ones; none at all where the detector describes nothing."""
    if not any(descriptions):
        return ()
    said = iter(descriptions)
    return tuple(next(said) if lives else "" for lives in live.tolist())


def _summary(name: str, activations: Tensor, live: Tensor, analysis: Analysis, measured: dict) -> LayerSummary:
    context, vocabulary, calibration = analysis.context, analysis.vocabulary, analysis.calibrations[name]
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
        nonfinite=0 if live.all() else int((~torch.isfinite(activations)).any(dim=0).sum()),
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


def _measured(found: UnitReadings, analysis: Analysis) -> dict:
    anchors = analysis.vocabulary.anchor_text.to(found.embeddings.device)
    nearest = diversity.nearest_unit(found.embeddings, anchors)
    interpretable = found.concepts[:, 0][found.similarities[:, 0] > found.tau]
    categories = analysis.vocabulary.concepts.categories
    tau_null = float(found.null.double().median())
    return {
        "d_anchor": float(nearest.double().mean()),
        "coverage": diversity.coverage(nearest, analysis.context.to_centroid.to(nearest.device)),
        "distinct": diversity.distinct_concepts(interpretable),
        "pairwise": diversity.pairwise_distance(found.embeddings),
        "effective_words": float(found.words.median()),
        "interpretable": len(interpretable),
        "tau": float(found.tau.double().median()),
        "tau_null": tau_null,
        "categories": dict(Counter(categories[i] or "other" for i in interpretable.tolist())),
        "words": _watched(found, analysis),
    }


def _watched(found: UnitReadings, analysis: Analysis) -> dict[str, float]:
    words = analysis.vocabulary.concepts.words
    text = analysis.vocabulary.text
    vectors = {word: text[words.index(word)] for word in analysis.watched if word in words}
    vectors |= {anchor.word: torch.from_numpy(anchor.vector) for anchor in analysis.anchors}
    if not vectors:
        return {}
    places = torch.stack(list(vectors.values())).to(found.embeddings)
    return dict(zip(vectors, approach.group_distance(found.embeddings, places).tolist(), strict=True))


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
        tau=np.full(units, np.nan, dtype=np.float32),
    )
