"""The encoder ``none``: no weights at all; every word is a direction of its own.

For detectors that look at no image embedding (invert, net_dissect, compositional) where no encoder can be had. d_anchor
and the map then count words and know nothing of their likeness: *dog* is as far from *puppy* as from *brick*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from cm_server.encoders.base import EncoderError, Progress, require_words
from cm_server.encoders.weights import digest

_DIM = 256


class WordDirections:
    """Words as pseudo-random unit vectors, nearly at right angles; it has no image side."""

    name = "none"
    dim = _DIM

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress
        self.fingerprint = digest(self.name, f"dim={_DIM}")

    def encode_text(self, words: Sequence[str]) -> torch.Tensor:
        """Embed K words: float32 ``[K, 256]``, rows of unit length, equal for equal words (case aside)."""
        rows = [_direction(word.strip().casefold()) for word in require_words(words)]
        return torch.stack(rows) if rows else torch.empty(0, _DIM)

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """There is none.

        Raises:
            EncoderError: always.
        """
        raise EncoderError(
            "encoder 'none' cannot embed images: give another --encoder, or a detector with labels of its own (invert, "
            "net_dissect, compositional)"
        )


def _direction(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(f"word:{word}".encode()).digest(), "big")
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(_DIM)
    return torch.from_numpy(normal / np.linalg.norm(normal)).float()
