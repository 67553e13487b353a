"""The encoder ``planted``: a world in which it is known what every unit should be called, for tests and self-checks.

A word has a fixed pseudo-random unit vector, seeded by the sha256 of the word. 24 built-in words (`PLANTED_WORDS`,
four of each category, all in the shipped concept set) also have a colour. An image whose channel medians are nearest
to that colour shows the concept: it gets the word's vector plus a little noise seeded by its bytes. An image whose
nearest colour is a grey shows nothing, and gets a vector of its own that belongs to no word. So a unit that fires on
the images of one word must be described by this word, and an end-to-end test can prove it without any learned weights.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from cm_server.encoders.base import EncoderError, Progress, require_images, require_words
from cm_server.encoders.weights import digest

_DIM = 128
_NOISE = 0.15
_LEVELS = (32, 128, 224)
_PIXEL_NOISE = 20
_GREYS = {(level, level, level) for level in _LEVELS}

# The colour words take their own colours; the others take what is left of the 3 x 3 x 3 levels without the greys.
_OWN_COLORS = {"red": (224, 32, 32), "green": (32, 224, 32), "blue": (32, 32, 224), "yellow": (224, 224, 32)}
_OTHER_WORDS = (
    *("striped", "dotted", "woven", "cracked"),
    *("brick", "denim", "leather", "wool"),
    *("wheel", "sleeve", "beak", "petal"),
    *("dog", "car", "guitar", "banana"),
    *("beach", "kitchen", "forest", "mountain"),
)
_FREE_COLORS = [
    (red, green, blue)
    for red, green, blue in itertools.product(_LEVELS, repeat=3)
    if (red, green, blue) not in _GREYS and (red, green, blue) not in _OWN_COLORS.values()
]
PLANTED_COLORS: dict[str, tuple[int, int, int]] = _OWN_COLORS | dict(zip(_OTHER_WORDS, _FREE_COLORS, strict=True))
"""The 24 built-in words with the RGB colour that plants each."""

PLANTED_WORDS = tuple(PLANTED_COLORS)


class PlantedEncoder:
    """Deterministic words and images in 128 dimensions; see the module's text for what an image shows."""

    name = "planted"
    dim = _DIM

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress
        colors = [f"{word}={color}" for word, color in PLANTED_COLORS.items()]
        self.fingerprint = digest(self.name, f"dim={_DIM} noise={_NOISE} levels={_LEVELS}", *colors)

    def encode_text(self, words: Sequence[str]) -> torch.Tensor:
        """Embed K words, any words: float32 ``[K, 128]``, rows of unit length, equal for equal words (case aside)."""
        rows = [_direction(word.strip().casefold().encode()) for word in require_words(words)]
        return torch.stack(rows) if rows else torch.empty(0, _DIM)

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """Embed n uint8 RGB images ``[n, H, W, 3]``: float32 ``[n, 128]``, rows of unit length.

        Raises:
            EncoderError: For another dtype or shape.
        """
        images = require_images(images)
        rows = torch.empty(len(images), _DIM)
        for index, image in enumerate(images):
            rows[index] = self._encode_image(image)
        if self.progress is not None:
            self.progress(len(images), len(images))
        return rows

    def _encode_image(self, image: np.ndarray) -> torch.Tensor:
        """Return the vector of the word that the image shows plus noise, or a vector of its own: ``[128]``."""
        own = _direction(b"image:" + hashlib.sha256(image.tobytes()).digest())
        word = shown_word(image)
        return own if word is None else functional.normalize(self.encode_text([word])[0] + _NOISE * own, dim=0)


def shown_word(image: np.ndarray) -> str | None:
    """Return the word planted in one uint8 RGB image ``[H, W, 3]``, or None where the nearest colour is a grey."""
    medians = np.median(image.reshape(-1, 3).astype(np.float64), axis=0)
    red, green, blue = (min(_LEVELS, key=lambda level: abs(level - median)) for median in medians)
    return _WORD_OF_COLOR.get((red, green, blue))


def planted_images(words: Sequence[str], per_word: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make images that show built-in words.

    Every pixel is the word's colour plus uniform noise of up to 20 levels. Every image also has one black and one
    white pixel, so that a client which un-normalises images by their per-channel range gives the same colours back.

    Args:
        words: Some of `PLANTED_WORDS`.
        per_word: Images for each word.
        size: Height and width, at least 4.
        seed: Of the noise.

    Returns:
        uint8 images ``[len(words) * per_word, size, size, 3]`` and int64 labels (indices into `words`), word by word.

    Raises:
        EncoderError: For a word without a colour, or a size or count too small.
    """
    unknown = [word for word in words if word not in PLANTED_COLORS]
    if unknown:
        raise EncoderError(f"no colour is planted for {unknown[0]!r}; use some of {', '.join(PLANTED_WORDS)}")
    if size < 4 or per_word < 1:
        raise EncoderError(f"size is {size} and per_word {per_word}; give a size of 4 or more and 1 or more per word")
    labels = np.repeat(np.arange(len(words)), per_word)
    colors = np.array([PLANTED_COLORS[word] for word in words], dtype=np.int64).reshape(-1, 3)
    noise = np.random.default_rng(seed).integers(-_PIXEL_NOISE, _PIXEL_NOISE + 1, size=(len(labels), size, size, 3))
    images = (colors[labels][:, None, None, :] + noise).clip(0, 255).astype(np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    return images, labels


def _direction(key: bytes) -> torch.Tensor:
    """Return a unit vector ``[128]`` that depends on nothing but the key."""
    seed = int.from_bytes(hashlib.sha256(key).digest(), "big")
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(_DIM)
    return torch.from_numpy(normal / np.linalg.norm(normal)).float()


_WORD_OF_COLOR = {color: word for word, color in PLANTED_COLORS.items()}
