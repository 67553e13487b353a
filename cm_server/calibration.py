"""What is fixed once per run and layer width, before any number is shown: T, the map's T, the ends of the scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cm_server.cache import ArrayCache, fingerprint
from cm_server.core import profiles
from cm_server.core.diversity import centroid_distances
from cm_server.core.profiles import NullModel
from cm_server.core.significance import NULL_DRAWS, NULL_VERSION, NullCurve, null_curve, null_widths
from cm_server.core.similarity import Similarity
from cm_server.core.temperature import Yardstick, fit_temperature, reference_similarities, yardstick
from cm_server.detectors import Detector
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.projections import map_temperature
from cm_server.vocabulary import Vocabulary

_UNKNOWN_NULL = NullModel(profiles.concentration, compares_units=True)
"""For a plug-in that does not say what its null depends on."""


@dataclass(frozen=True)
class ProbeContext:
    """A run's probe set, seen through encoder, words and detector.

    Attributes:
        probe_fingerprint: the client's.
        image_text: P ``[N, K]``.
        similarity: activations ``[N, M]`` to ``[M, K]``.
        images: cosine search over the image embeddings.
        to_centroid: ``[A]`` distance of each anchor to the mean word.
        fingerprint: encoder, words, anchors, probe set and detector.
        null: what the detector's null depends on; None where it has none.
        prepare: P to similarity, for a bootstrap; None where the detector cannot.
    """

    probe_fingerprint: str
    image_text: Tensor
    similarity: Similarity
    images: VectorIndex
    to_centroid: Tensor
    fingerprint: str
    null: NullModel | None = _UNKNOWN_NULL
    prepare: Callable[[Tensor], Similarity] | None = None

    @property
    def compares_units(self) -> bool:
        """Whether a unit's similarity depends on the other units of its layer."""
        return self.null is None or self.null.compares_units


@dataclass(frozen=True)
class LayerCalibration:
    """T and scale of one layer width.

    Attributes:
        temperature: T of Eq. 1.
        map_temperature: T of the map.
        scale: d_anchor's two ends at that T.
        null: thresholds of live units with these activations; None where the detector has no null.
    """

    temperature: float
    map_temperature: float
    scale: Yardstick
    null: Callable[[Tensor, int], Tensor] | None = field(default=None, compare=False)

    def null_of(self, activations: Tensor, live: int) -> Tensor:
        """The null's 95th percentile for units with these values, NaN where there is no null.

        Args:
            activations: ``[N, m]``, some or all of the layer's live units.
            live: how many live units the layer has.

        Returns:
            ``[m]``.
        """
        if self.null is None:
            return activations.new_full((activations.shape[1],), torch.nan)
        return self.null(activations, live)


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
    image_text = (embedded @ vocabulary.text.T).to(device)
    return ProbeContext(
        probe_fingerprint=probe_fingerprint,
        image_text=image_text,
        similarity=_prepared(detector, embedded.to(device), vocabulary.text.to(device), image_text),
        images=VectorIndex(embedded, "cosine"),
        to_centroid=centroid_distances(vocabulary.anchor_text, vocabulary.text),
        fingerprint=fingerprint(vocabulary.fingerprint, vocabulary.anchors.tobytes(), key, detector.fingerprint),
        null=getattr(detector, "null", _UNKNOWN_NULL),
        prepare=detector.prepare,
    )


def _prepared(detector: Detector, images: Tensor, text: Tensor, image_text: Tensor) -> Similarity:
    """Through the embeddings where the detector can and gains by it, else through P."""
    embedded = getattr(detector, "prepare_embedded", None)
    return (embedded(images, text) if embedded else None) or detector.prepare(image_text)


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
        fit = fit_temperature(context.similarity, context.image_text, text, anchors, units)
        chosen = temperature or fit.temperature
        by_words = tuple((t, found.chance_words) for t, found in fit.curve)
        references = reference_similarities(context.similarity, context.image_text, units)
        scale = yardstick(*references, text, anchors, chosen)
        spread = map_temperature(by_words, text.shape[0])
        return np.array([chosen, spread, scale.ideal, scale.chance, scale.chance_words])

    chosen, spread, ideal, chance, words = (float(v) for v in cache.get("calibration", key, compute))
    return LayerCalibration(chosen, spread, Yardstick(ideal, chance, words), null_thresholds(context, cache))


def null_thresholds(context: ProbeContext, cache: ArrayCache) -> Callable[[Tensor, int], Tensor] | None:
    """The null of this probe set, words and detector, measured when first asked for and kept in the cache.

    Args:
        context: the probe set; a detector that compares units has a null for each width.
        cache: where the curves are kept.

    Returns:
        What `LayerCalibration.null` wants; None where the detector has no null.
    """
    model = context.null
    if model is None:
        return None

    @lru_cache(maxsize=64)
    def curve(width: int) -> NullCurve:
        key = fingerprint("null", NULL_VERSION, context.fingerprint, width)
        images, device = len(context.image_text), str(context.image_text.device)
        found = cache.get("null", key, lambda: null_curve(context.similarity, model, images, width, device).stacked())
        return NullCurve(*found)

    def thresholds(activations: Tensor, live: int) -> Tensor:
        profiles = model.profile(activations)
        weights = null_widths(live) if model.compares_units else {NULL_DRAWS: 1.0}
        parts = torch.stack([weight * curve(width).at(profiles) for width, weight in weights.items()])
        return parts.sum(dim=0)

    return thresholds
