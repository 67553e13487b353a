"""Which images a stream capture was taken on, and which of them the store lacks. No sockets, no clocks.

The client names the images by keys; the server asks for those it has not, some at a time, so that no more than
`ASKED_AT_ONCE` of them are ever on their way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np

from cm_client.protocol import limits
from cm_client.protocol.messages import CaptureStart, SampleImages, SampleKeys
from cm_server.core.assembly import AssemblyError, Rows

KEY_BYTES = 32
ASKED_AT_ONCE = 256


class SampleAssembly:
    """The images of one stream capture.

    Attributes:
        start: the capture's announcement.
    """

    def __init__(self, start: CaptureStart) -> None:
        self.start = start
        self._rows = Rows((start.probes, KEY_BYTES), "|u1")
        self._lacking: list[int] | None = None
        self._asked: set[int] = set()
        self._came = self._came_before = 0

    @property
    def keys(self) -> list[str]:
        """The images' keys, hex, in the order of the capture's rows."""
        return [bytes(row).hex() for row in self._rows.array]

    @property
    def complete(self) -> bool:
        """Whether the store has every image."""
        return self._lacking is not None and not self._lacking

    def put_keys(self, chunk: SampleKeys) -> bool:
        """Takes keys; True once none is missing.

        Raises:
            AssemblyError: they do not fit, or are not the announced ones.
        """
        self._came += 1
        self._rows.put(chunk.start, chunk.keys)
        if self._rows.missing:
            return False
        if hashlib.sha256(self._rows.array.data).hexdigest() != self.start.probe_fingerprint:
            raise AssemblyError(f"the images' keys do not match the fingerprint {self.start.probe_fingerprint[:12]!r}")
        return True

    def known(self, keys: Collection[str]) -> None:
        """The store has the images of these ``keys``."""
        first: dict[str, int] = {}
        for row, key in enumerate(self.keys):
            if key not in keys:
                first.setdefault(key, row)
        self._lacking = list(first.values())
        self._asked.clear()

    def next_rows(self) -> list[int]:
        """Rows to ask for now; empty while others are on their way, and in the end."""
        if self._lacking is None or self._asked:
            return []
        self._asked = set(self._lacking[:ASKED_AT_ONCE])
        return sorted(self._asked)

    def stalled(self) -> list[int] | None:
        """Asked now and then while the client waits: None where something came since the last time.

        Else the rows to ask for again, because the question or the answer was lost; empty where it was not even clear
        yet what to ask for.
        """
        came, self._came_before = self._came_before, self._came
        return None if came != self._came else sorted(self._asked)

    def put_images(self, message: SampleImages) -> dict[str, np.ndarray]:
        """Takes images that were asked for; others are passed by.

        Returns:
            Images to store, uint8 ``[H, W, 3]``, by key.

        Raises:
            AssemblyError: they are no images, or their number is not the rows'.
        """
        self._came += 1
        images = message.images
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) != len(message.rows):
            raise AssemblyError(f"images {images.dtype} {images.shape} for {len(message.rows)} rows")
        if not all(type(row) is int for row in message.rows):
            raise AssemblyError("rows of images that are no numbers")
        if max(images.shape[1:3]) > limits.MAX_IMAGE_SIDE:
            raise AssemblyError(f"images of {images.shape[1:3]} pixels: {limits.MAX_IMAGE_SIDE} are allowed")
        keys = self.keys
        found = {keys[r]: image for r, image in zip(message.rows, images, strict=True) if r in self._asked}
        self._asked.difference_update(message.rows)
        self._lacking = [row for row in self._lacking or [] if keys[row] not in found]
        return found
