"""A layer's analysis without an encoder: random words and images in text space, as many as wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from cm_server.cache import ArrayCache
from cm_server.calibration import LayerCalibration, probe_context
from cm_server.concepts import ConceptSet, load_concepts
from cm_server.core.assembly import Capture
from cm_server.core.temperature import Yardstick
from cm_server.detectors import make_detector
from cm_server.pipeline import Analysis, analyse
from cm_server.vocabulary import build_vocabulary

RESNET18 = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}


class RandomEncoder:
    """Words at random places, images near a word each; conforms to `cm_server.encoders.Encoder`."""

    name = "random"
    fingerprint = "0" * 64
    progress = None

    def __init__(self, dim: int = 384) -> None:
        self.dim = dim

    def encode_text(self, words) -> torch.Tensor:
        """Unit rows ``[K, dim]``."""
        return _unit(torch.randn(len(words), self.dim, generator=torch.Generator().manual_seed(0)))

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """Unit rows ``[n, dim]``."""
        generator = torch.Generator().manual_seed(1)
        words = self.encode_text(range(1000))[torch.randint(1000, (len(images),), generator=generator)]
        return _unit(words + 0.06 * torch.randn(len(images), self.dim, generator=generator))


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def prepared(detector: str, units: dict[str, int], probes: int, concepts: ConceptSet, cache: str) -> Analysis:
    """Everything that is done once for a run; T is given, the null is measured."""
    arrays, encoder = ArrayCache(Path(cache)), RandomEncoder()
    vocabulary = build_vocabulary(encoder, concepts, "pca", arrays)
    images = np.zeros((probes, 1, 1, 3), dtype=np.uint8)
    context = probe_context(images, "bench", encoder, vocabulary, make_detector(detector), arrays)
    calibrated = LayerCalibration(0.1, 0.02, Yardstick(0.8, 0.9, 500.0))
    return Analysis(context, vocabulary, dict.fromkeys(units, calibrated), 0.0)


class Snapshot:
    """ResNet-18's four stages on 1,024 probes and the shipped words, ready to be analysed again and again."""

    def __init__(self, detector: str, probes: int = 1024) -> None:
        concepts = load_concepts()
        self.words = len(concepts)
        with tempfile.TemporaryDirectory() as cache:
            self._analysis = prepared(detector, RESNET18, probes, concepts, cache)
            generator = torch.Generator().manual_seed(2)
            layers = {
                name: torch.randn(probes, units, generator=generator).relu_().numpy()
                for name, units in RESNET18.items()
            }
            self._capture = Capture(0, 0, 0.0, "bench", layers)
            self.analyse()  # measures the null

    def analyse(self) -> object:
        """One snapshot."""
        return analyse("bench", self._capture, self._analysis, None, 0.0)
