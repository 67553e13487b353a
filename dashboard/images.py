"""Probe images over HTTP: ``/probe/<sha256 of the set>/<sample>.png``, encoded anew, never a file passed through.

What is stored came from a client once. So size is bounded on both ends before anything is allocated: what is too large
is refused, and what goes out is never larger than a thumbnail needs to be, however odd the picture's shape.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from fastapi import FastAPI, Response
from PIL import Image

from cm_server.stores.errors import StoreError
from dashboard.data import Source

SMALLEST = 96
"""Smaller images are enlarged to this many pixels at least, unsmoothed, so that one sees what the network saw."""
LARGEST = 256
"""Larger images are made smaller, to this many pixels at most, and none is enlarged above it."""
MOST_PIXELS = 16 * 2**20
"""A stored image of more pixels is not touched at all; clients may send 512 × 512."""
MOST_BYTES = 32 * 2**20
"""Encoded images kept in memory, all together."""
_FOREVER = "private, max-age=31536000, immutable"
_LONGEST = 128


def serve(source: Source, server: FastAPI) -> None:
    """Adds the route to the web server."""
    kept = Kept(MOST_BYTES)

    def encoded(fingerprint: str, sample: int) -> bytes:
        reader = source.reader()
        if reader is None:
            raise StoreError("there is no store yet")
        return png(reader.probe_image(fingerprint, sample))

    @server.get("/probe/{fingerprint}/{name}", include_in_schema=False)
    def probe(fingerprint: str, name: str) -> Response:
        sample = sample_of(fingerprint, name)
        if sample is None:
            return Response("not the address of a probe image", status_code=400, media_type="text/plain")
        try:
            picture = kept.get((fingerprint, sample), lambda: encoded(fingerprint, sample))
            return Response(picture, media_type="image/png", headers={"Cache-Control": _FOREVER})
        except (StoreError, OSError, ValueError):
            return Response("no such probe image", status_code=404, media_type="text/plain")


def sample_of(fingerprint: str, name: str) -> int | None:
    """The sample number of a well-formed address; None for any other.

    >>> sample_of('ab12', '7.png')
    7
    >>> sample_of('../x', '7.png') is None
    True
    """
    digits = name.removesuffix(".png")
    if not (fingerprint.isascii() and fingerprint.isalnum() and len(fingerprint) <= _LONGEST):
        return None
    if digits == name or not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        return None
    return int(digits)


def address(fingerprint: str, sample: int) -> str:
    """The address of a probe image."""
    return f"/probe/{fingerprint}/{sample}.png"


def png(image: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` image as PNG: enlarged by a whole factor if it is small, made smaller if it is large.

    Raises:
        ValueError: it is no such image, or has more than `MOST_PIXELS`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not 0 < image[..., 0].size <= MOST_PIXELS:
        raise ValueError(f"no image to show: {image.dtype} {image.shape}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    factor = min(-(-SMALLEST // min(picture.size)), LARGEST // max(picture.size))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


class Kept:
    """The last answers, as many as a number of bytes holds; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._found: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer to ``key``, made where it is not kept."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        value = make()
        with self._lock:
            self._held += len(value) - len(self._found.get(key, b""))
            self._found[key] = value
            while self._held > self._most:
                self._held -= len(self._found.popitem(last=False)[1])
        return value
