"""Probe images over HTTP: ``/probe/<fingerprint>/<sample>.png``, always encoded anew, never a file passed through."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from fastapi import FastAPI, Response
from PIL import Image

from cm_server.stores.errors import StoreError
from dashboard.data import Source

SMALLEST = 96
"""Smaller images are enlarged to this many pixels at least, unsmoothed, so that one sees what the network saw."""
_FOREVER = "private, max-age=31536000, immutable"
_LONGEST = 128


def serve(source: Source, server: FastAPI) -> None:
    """Adds the route to the web server."""

    @lru_cache(maxsize=1024)
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
            return Response(encoded(fingerprint, sample), media_type="image/png", headers={"Cache-Control": _FOREVER})
        except StoreError:
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
    """A uint8 ``[H, W, 3]`` image as PNG, enlarged by a whole factor if it is small."""
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8))
    factor = -(-SMALLEST // max(1, min(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
