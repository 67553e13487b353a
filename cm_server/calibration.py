"""What is fixed once per run and layer width, before any number is shown: T, the map's T, the ends of the scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cm_server.cache import ArrayCache, fingerprint
from cm_server.core import profiles
from cm_server.core.diversity import centroid_distances
from cm_server.core.profiles import NullModel
from cm_server.core.significance import NULL_DRAWS, NULL_VERSION, NullCurve, null_curve, null_widths
from cm_server.core.similarity import Similarity
from cm_server.core.temperature import MOST_UNITS, Yardstick, fit_to_references, reference_similarities, yardstick
from cm_server.detectors import Detector, LabelledDetector
from cm_server.detectors.base import Detection, ProbeView
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.projections import map_temperature
from cm_server.vocabulary import Vocabulary

Thresholds = Callable[[Tensor, int], Tensor]
"""Activations ``[N, m]`` of live units, and how many the layer has, to the null's 95th percentile of each ``[m]``."""

_UNKNOWN_NULL = NullModel(profiles.concentration, compares_units=True)
"""For a plug-in that does not say what its null depends on."""


@dataclass(frozen=True)
class ProbeContext:
    """A run's probe set, seen through encoder, words and detector.

    Attributes:
        probe_fingerprint: the client's.
        image_text: P ``[N, K]``; ``[N, 0]`` where the detector has labels of its own.
        similarity: activations ``[N, M]`` to ``[M, K]``.
        images: cosine search over the image embeddings, where they are needed.
        to_centroid: ``[A]`` distance of each anchor to the mean word.
        fingerprint: encoder, words, anchors, probe set and detector.
        compares_units: whether a unit's similarity depends on the other units of its layer.
        null: thresholds of live units with these activations; None where the detector has no null.
        prepare: P to similarity, for a bootstrap.
        detection: a detector with labels of its own, ready for this probe set; then neither ``similarity`` nor ``null``
            nor ``prepare`` is asked.
        kind: ``probe``, or ``stream``: then the images are those of one capture.
    """

    probe_fingerprint: str
    image_text: Tensor
    similarity: Similarity
    images: VectorIndex | None
    to_centroid: Tensor
    fingerprint: str
    compares_units: bool
    null: Thresholds | None
    prepare: Callable[[Tensor], Similarity]
    kind: str = "probe"
    detection: Detection | None = None

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """Similarities of ideal units and of the same units by chance, ``[units, K]`` each."""
        if self.detection is not None:
            return self.detection.references(units)
        return reference_similarities(self.similarity, self.image_text, units)

    def null_of(self, activations: Tensor, live: int) -> Tensor:
        """The null's 95th percentile for units with these values, NaN where there is no null.

        Args:
            activations: ``[N, m]``, some or all of a layer's live units.
            live: how many live units the layer has.

        Returns:
            ``[m]``.
        """
        if self.null is None:
            return activations.new_full((activations.shape[1],), torch.nan)
        return self.null(activations, live)


@dataclass(frozen=True)
class LayerCalibration:
    """T and scale of one layer width.

    Attributes:
        temperature: T of Eq. 1.
        map_temperature: T of the map.
        scale: d_anchor's two ends at that T.
    """

    temperature: float
    map_temperature: float
    scale: Yardstick


def probe_context(
    images: np.ndarray,
    probe_fingerprint: str,
    encoder: Encoder,
    vocabulary: Vocabulary,
    detector: Detector,
    cache: ArrayCache,
    device: str = "cpu",
) -> ProbeContext:
    """Embeds the probe images (from the cache where it has them) and prepares the detector.

    Args:
        images: uint8 ``[N, H, W, 3]``.
        probe_fingerprint: identifies the set.
        encoder, vocabulary, detector: as chosen for the server.
        cache: where image embeddings are kept.
        device: where similarities are computed.
    """
    embedded, key = embedded_images(images, encoder, cache)
    mark = fingerprint(vocabulary.fingerprint, vocabulary.anchors.tobytes(), key, detector.fingerprint)
    return context_of(embedded, probe_fingerprint, vocabulary, detector, mark, device, cache)


def context_of(
    embedded: Tensor,
    probe_fingerprint: str,
    vocabulary: Vocabulary,
    detector: Detector,
    mark: str,
    device: str,
    cache: ArrayCache | None,
    kind: str = "probe",
) -> ProbeContext:
    """Images in text space, seen through words and detector.

    Args:
        embedded: ``[N, D]``, unit rows.
        probe_fingerprint: identifies the images.
        vocabulary, detector: as chosen for the server.
        mark: the context's fingerprint.
        device: where similarities are computed.
        cache: where the null is kept; None for images that never come again.
        kind: ``probe`` or ``stream``.
    """
    image_text = (embedded @ vocabulary.text.T).to(device)
    through = getattr(detector, "prepare_embedded", None)  # faster for some, where N and K are large
    fast = through(embedded.to(device), vocabulary.text.to(device)) if through else None
    similarity = fast or detector.prepare(image_text)
    model = getattr(detector, "null", _UNKNOWN_NULL)
    return ProbeContext(
        probe_fingerprint=probe_fingerprint,
        image_text=image_text,
        similarity=similarity,
        images=VectorIndex(embedded, "cosine"),
        to_centroid=centroid_distances(vocabulary.anchor_text, vocabulary.text),
        fingerprint=mark,
        compares_units=model is None or model.compares_units,
        null=null_thresholds(similarity, model, image_text, mark, cache),
        prepare=detector.prepare,
        kind=kind,
    )


def labelled_context(
    view: ProbeView, probe_fingerprint: str, encoder: Encoder, vocabulary: Vocabulary, detector: LabelledDetector
) -> ProbeContext:
    """Prepares a detector with labels of its own; the images are not embedded.

    Args:
        view: the probe set.
        probe_fingerprint: identifies it.
        encoder: its text side places the labels.
        vocabulary: the detector's words, or the server's.
        detector: as chosen for the server.

    Raises:
        ValueError: the probe set does not fit the detector; the text says what to do.
    """
    labels = b"" if view.labels is None else view.labels.numbers.tobytes()
    parts = (vocabulary.fingerprint, vocabulary.anchors.tobytes(), probe_fingerprint, labels, detector.fingerprint)
    return ProbeContext(
        probe_fingerprint=probe_fingerprint,
        image_text=torch.empty(len(view.images), 0, device=view.device),
        similarity=_unasked,
        images=None,
        to_centroid=centroid_distances(vocabulary.anchor_text, vocabulary.text),
        fingerprint=fingerprint(encoder.fingerprint, *parts),
        compares_units=False,
        null=None,
        prepare=_unasked,
        detection=detector.look(view),
    )


def _unasked(values: Tensor) -> Any:
    raise TypeError("a detector with labels of its own examines layers; its similarity is no function of pooled values")


def embedded_images(images: np.ndarray, encoder: Encoder, cache: ArrayCache) -> tuple[Tensor, str]:
    """Probe images in text space, float32 ``[N, D]`` unit rows, and the fingerprint they are cached under.

    Args:
        images: uint8 ``[N, H, W, 3]``.
        encoder: image side of the embedding space.
        cache: a probe set is embedded once.
    """
    key = fingerprint("images", encoder.fingerprint, images.shape, images.tobytes())
    return torch.from_numpy(cache.get("images", key, lambda: encoder.encode_images(images).numpy())), key


def calibrate(
    context: ProbeContext, vocabulary: Vocabulary, units: int, temperature: float | None, cache: ArrayCache
) -> LayerCalibration:
    """Fits T for a layer of ``units`` units, or measures the scale at the user's T.

    Args:
        context: the run's probe set.
        vocabulary: the words.
        units: M, all units of the layer.
        temperature: the user's T; None lets the label-free rule choose.
        cache: the fit depends only on fingerprints, so it is done once.
    """
    key = fingerprint("calibration", context.fingerprint, units, temperature)

    def compute() -> np.ndarray:
        text = vocabulary.text.to(context.image_text.device)
        anchors = vocabulary.anchor_text.to(text.device)
        fit = fit_to_references(*context.references(min(units, MOST_UNITS)), text, anchors)
        chosen = temperature or fit.temperature
        by_words = tuple((t, found.chance_words) for t, found in fit.curve)
        scale = yardstick(*context.references(units), text, anchors, chosen)
        spread = map_temperature(by_words, text.shape[0])
        return np.array([chosen, spread, scale.ideal, scale.chance, scale.chance_words])

    chosen, spread, ideal, chance, words = (float(v) for v in cache.get("calibration", key, compute))
    return LayerCalibration(chosen, spread, Yardstick(ideal, chance, words))


def null_thresholds(
    similarity: Similarity, model: NullModel | None, image_text: Tensor, mark: str, cache: ArrayCache | None
) -> Thresholds | None:
    """The null of some images, words and a detector, measured when first asked for.

    Args:
        similarity: the detector on these images.
        model: what its null depends on; None: it has none. One that compares units has a null for each width.
        image_text: P ``[N, K]``.
        mark: fingerprint of images, words and detector.
        cache: where the curves are kept; None: only in memory, as long as the result lives.
    """
    if model is None:
        return None

    @lru_cache(maxsize=64)
    def curve(width: int) -> NullCurve:
        def measure() -> np.ndarray:
            return null_curve(similarity, model, len(image_text), width, str(image_text.device)).stacked()

        if cache is None:
            return NullCurve(*measure())
        return NullCurve(*cache.get("null", fingerprint("null", NULL_VERSION, mark, width), measure))

    def thresholds(activations: Tensor, live: int) -> Tensor:
        found = model.profile(activations)
        weights = null_widths(live) if model.compares_units else {NULL_DRAWS: 1.0}
        return torch.stack([weight * curve(width).at(found) for width, weight in weights.items()]).sum(dim=0)

    return thresholds
