"""What an encoder is, how it fails, and the contract checks that anyone can run on their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
import torch

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) after each batch of a long encoding."""

_TOLERANCE = 1e-5
_CHECK_WORDS = ("red", "striped", "wood", "wheel", "dog", "kitchen", "a rather long concept name of nine words here")


class EncoderError(ValueError):
    """An encoder cannot be built or used; the message names the thing, its value and the cure in one line."""


@runtime_checkable
class Encoder(Protocol):
    """Places words and images in one space, where a cosine says how well they fit.

    Attributes:
        name: How the encoder is asked for, e.g. ``conse`` or ``open_clip:ViT-B-32/laion2b_s34b_b79k``.
        dim: Width D of the embeddings.
        fingerprint: sha256 (hex) over the name, the weights and the preprocessing parameters. Values made under
            different fingerprints must never be compared.
        progress: Called with (images done, images in all) while images are embedded; the server sets it.
    """

    name: str
    dim: int
    fingerprint: str
    progress: Progress | None

    def encode_text(self, words: Sequence[str]) -> torch.Tensor:
        """Embed K concept words (bare words as prompts): float32 ``[K, D]`` on the CPU, rows of unit length."""
        ...

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        """Embed uint8 RGB images ``[n, H, W, 3]``: float32 ``[n, D]`` on the CPU, rows of unit length."""
        ...


def require_images(images: np.ndarray) -> np.ndarray:
    """Return the images as they came if they are uint8 ``[n, H, W, 3]``.

    Raises:
        EncoderError: For any other dtype or shape; the message names what was given.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        raise EncoderError(
            f"images are {images.dtype} {list(images.shape)}; give uint8 RGB images [n, height, width, 3] (0..255)"
        )
    return images


def require_words(words: Sequence[str]) -> list[str]:
    """Return the words as a list if every one is a non-empty string.

    Raises:
        EncoderError: For one bare string in place of a list, and for an empty or non-string word.
    """
    if isinstance(words, str):
        raise EncoderError(f"words is the single string {words!r}; give a list of words, e.g. [{words!r}]")
    for position, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise EncoderError(f"word {position} is {word!r}; every concept must be a non-empty string")
    return list(words)


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for, else CUDA where torch can use it, else the CPU.

    Raises:
        EncoderError: If the name is no torch device, or a CUDA device is asked for where there is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"device {device!r} is no torch device; give 'cpu', 'cuda' or 'cuda:0'") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise EncoderError(f"device {device!r} was asked for, but torch sees no CUDA here; give 'cpu'")
    return chosen


def exact_convolutions() -> AbstractContextManager[None]:
    """Return a context without TF32 and autotuning, so that a GPU gives an image the same row in every batch."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def check_encoder(encoder: Encoder) -> None:
    """Check the contract of an encoder, your own plug-in included; a few seconds for a real one.

    Looks at names, shapes, dtypes, devices, unit norms, determinism, independence of the batch (to 1e-5), and empty
    input.

    Raises:
        EncoderError: Names the first broken clause.
    """
    _check_identity(encoder)
    words = list(_CHECK_WORDS)
    noise = np.random.default_rng(0).integers(0, 256, size=(5, 40, 40, 3), dtype=np.uint8)
    _check_embedding(encoder, "encode_text", words)
    _check_embedding(encoder, "encode_images", noise)


def _check_identity(encoder: Encoder) -> None:
    """Name, width and fingerprint have the promised form."""
    if not isinstance(encoder, Encoder):
        raise EncoderError(
            f"{type(encoder).__name__} lacks a member of Encoder: name, dim, fingerprint, encode_text, encode_images"
        )
    _demand(
        encoder,
        isinstance(encoder.name, str) and bool(encoder.name),
        f"name is {encoder.name!r}, not a non-empty string",
    )
    _demand(encoder, isinstance(encoder.dim, int) and encoder.dim > 0, f"dim is {encoder.dim!r}, not a positive int")
    fingerprint = encoder.fingerprint
    is_sha = isinstance(fingerprint, str) and len(fingerprint) == 64 and not set(fingerprint) - set("0123456789abcdef")
    _demand(encoder, is_sha, f"fingerprint is {fingerprint!r}, not 64 hex digits of sha256")


def _check_embedding(encoder: Encoder, method: str, batch: Sequence[str] | np.ndarray) -> None:
    """One of the two methods keeps shape, dtype, unit norm, determinism and independence of the batch."""
    encode = getattr(encoder, method)
    rows = encode(batch)
    _demand(encoder, isinstance(rows, torch.Tensor), f"{method} returns {type(rows).__name__}, not a torch.Tensor")
    expected = (len(batch), encoder.dim)
    _demand(encoder, tuple(rows.shape) == expected, f"{method} returns shape {list(rows.shape)}, not {list(expected)}")
    _demand(encoder, rows.dtype == torch.float32, f"{method} returns {rows.dtype}, not torch.float32")
    _demand(encoder, rows.device.type == "cpu", f"{method} returns a tensor on {rows.device}, not on the CPU")
    _demand(
        encoder, not rows.requires_grad, f"{method} returns a tensor that wants gradients; use torch.inference_mode"
    )
    lengths = rows.norm(dim=1)
    unit = bool(torch.isfinite(rows).all()) and bool(((lengths - 1).abs() < _TOLERANCE).all())
    _demand(encoder, unit, f"{method} returns rows of length {lengths.min():.6f}..{lengths.max():.6f}, not 1")
    _demand(encoder, bool(torch.equal(rows, encode(batch))), f"{method} gives other values when called again")
    single = torch.cat([encode(batch[i : i + 1]) for i in range(len(batch))])
    gap = float((single - rows).abs().max())
    _demand(encoder, gap <= _TOLERANCE, f"{method} depends on the batch: alone and together differ by {gap:.1e}")
    empty = encode(batch[:0])
    _demand(encoder, tuple(empty.shape) == (0, encoder.dim), f"{method} of nothing has shape {list(empty.shape)}")


def _demand(encoder: Encoder, holds: bool, complaint: str) -> None:
    """Raise with the encoder's name unless the clause holds."""
    if not holds:
        raise EncoderError(f"encoder {getattr(encoder, 'name', '?')!r} breaks its contract: {complaint}")
