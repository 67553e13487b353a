"""What is fixed once per run and layer width, before any number is shown: T, the map's T, the ends of the scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.cache import ArrayCache, fingerprint
from cm_server.core.diversity import centroid_distances
from cm_server.core.temperature import Similarity, Yardstick, fit_temperature, reference_similarities, yardstick
from cm_server.detectors import Detector
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.projections import map_temperature
from cm_server.vocabulary import Vocabulary


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
        kind: ``probe``, or ``stream``: then the images are those of one capture.
    """

    probe_fingerprint: str
    image_text: Tensor
    similarity: Similarity
    images: VectorIndex
    to_centroid: Tensor
    fingerprint: str
    kind: str = "probe"


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
    image_text = (embedded @ vocabulary.text.T).to(device)
    return ProbeContext(
        probe_fingerprint=probe_fingerprint,
        image_text=image_text,
        similarity=detector.prepare(image_text),
        images=VectorIndex(embedded, "cosine"),
        to_centroid=centroid_distances(vocabulary.anchor_text, vocabulary.text),
        fingerprint=fingerprint(vocabulary.fingerprint, vocabulary.anchors.tobytes(), key, detector.fingerprint),
    )


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
    return LayerCalibration(chosen, spread, Yardstick(ideal, chance, words))
