"""What is fixed once per run and layer width, before any number is shown: T, the map's T, the ends of the scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm_server.cache import ArrayCache, fingerprint
from cm_server.core import significance
from cm_server.core.diversity import centroid_distances
from cm_server.core.temperature import (
    MOST_UNITS,
    Similarity,
    Yardstick,
    fit_to_references,
    reference_similarities,
    yardstick,
)
from cm_server.detectors import Detector, LabelledDetector
from cm_server.detectors.base import Detection, Examination, ProbeView, Responses
from cm_server.encoders.base import Encoder
from cm_server.index import VectorIndex
from cm_server.projections import map_temperature
from cm_server.vocabulary import Vocabulary


@dataclass(frozen=True)
class ProbeContext:
    """A run's probe set, seen through encoder, words and detector.

    Attributes:
        probe_fingerprint: the client's.
        image_text: P ``[N, K]``; ``[N, 0]`` where the detector has labels of its own.
        similarity: activations ``[N, M]`` to ``[M, K]``; None where the detector has labels of its own.
        images: cosine search over the image embeddings, where they are needed.
        to_centroid: ``[A]`` distance of each anchor to the mean word.
        fingerprint: encoder, words, anchors, probe set and detector.
        detection: a detector with labels of its own, ready for this probe set.
        kind: ``probe``, or ``stream``: then the images are those of one capture.
    """

    probe_fingerprint: str
    image_text: Tensor
    similarity: Similarity | None
    images: VectorIndex | None
    to_centroid: Tensor
    fingerprint: str
    detection: Detection | None = None
    kind: str = "probe"

    def references(self, units: int) -> tuple[Tensor, Tensor]:
        """Similarities of ideal units and of the same units by chance, ``[units, K]`` each."""
        if self.detection is not None:
            return self.detection.references(units)
        assert self.similarity is not None  # one of the two is always there
        return reference_similarities(self.similarity, self.image_text, units)

    def examine(self, responses: Responses) -> Examination:
        """What the detector finds in one layer's live units."""
        if self.detection is not None:
            return self.detection.examine(responses)
        assert self.similarity is not None  # one of the two is always there
        null = significance.null_threshold(self.similarity, responses.pooled)
        return Examination(self.similarity(responses.pooled), null)


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
        similarity=None,
        images=None,
        to_centroid=centroid_distances(vocabulary.anchor_text, vocabulary.text),
        fingerprint=fingerprint(encoder.fingerprint, *parts),
        detection=detector.look(view),
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
        fit = fit_to_references(*context.references(min(units, MOST_UNITS)), text, anchors)
        chosen = temperature or fit.temperature
        by_words = tuple((t, found.chance_words) for t, found in fit.curve)
        scale = yardstick(*context.references(units), text, anchors, chosen)
        spread = map_temperature(by_words, text.shape[0])
        return np.array([chosen, spread, scale.ideal, scale.chance, scale.chance_words])

    chosen, spread, ideal, chance, words = (float(v) for v in cache.get("calibration", key, compute))
    return LayerCalibration(chosen, spread, Yardstick(ideal, chance, words))
