"""A window of the training stream: rows of some steps become one capture. Pure: numpy in, a capture's arrays out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm_client.outbox import StreamSample

EXHAUSTED = 4
"""A window that has looked at so many times its size and is not full has seen the whole data set."""


@dataclass(frozen=True)
class Rows:
    """What one forward gave: ``images`` uint8 ``[n, H, W, 3]`` with their ``keys``, and per layer ``[n, units]``."""

    step: int
    keys: list[bytes]
    images: np.ndarray
    layers: dict[str, np.ndarray]


class Window:
    """Collects rows of different images until there are enough.

    The same image twice would count as two witnesses in the null's shuffles and lower the threshold, so only its first
    row is kept.

    Args:
        size: images wanted.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen = 0
        self._parts: list[Rows] = []
        self._keys: set[bytes] = set()

    @property
    def count(self) -> int:
        """Different images so far."""
        return len(self._keys)

    @property
    def over(self) -> bool:
        """Whether it is full, or there seem to be no more images."""
        return self.count >= self.size or self.seen >= EXHAUSTED * self.size

    def add(self, rows: Rows) -> None:
        """Take what is new in ``rows`` and fits; images of another shape and layers of another width are passed by."""
        self.seen += len(rows.keys)
        if self._parts and not _alike(self._parts[0], rows):
            return
        new: dict[bytes, int] = {}
        for index, key in enumerate(rows.keys):
            if key not in self._keys and len(self._keys) + len(new) < self.size:
                new.setdefault(key, index)
        if new:
            at = list(new.values())
            layers = {name: values[at] for name, values in rows.layers.items()}
            self._parts.append(Rows(rows.step, list(new), rows.images[at], layers))
            self._keys.update(new)

    def take(self, count: int) -> tuple[StreamSample, int, dict[str, np.ndarray]]:
        """The first ``count`` images, the last step they come from, and float32 ``[count, units]`` by layer."""
        keys = np.frombuffer(b"".join(key for part in self._parts for key in part.keys), np.uint8).reshape(-1, 32)
        images = np.concatenate([part.images for part in self._parts])[:count]
        names = self._parts[0].layers
        layers = {n: np.concatenate([part.layers[n] for part in self._parts])[:count] for n in names}
        sample = StreamSample(keys[:count], images, self._parts[0].step)
        return sample, self._parts[-1].step, layers


def content_keys(images: np.ndarray) -> list[bytes]:
    """The sha256 of each image of uint8 ``[n, H, W, 3]``, its shape included."""
    shape = str(images.shape[1:]).encode()
    return [hashlib.sha256(shape + np.ascontiguousarray(image).data.tobytes()).digest() for image in images]


def id_keys(run: str, ids: Sequence[Any]) -> list[bytes]:
    """A key for each of the user's sample ids; they mean something only within the run."""
    return [hashlib.sha256(f"id\0{run}\0{one}".encode()).digest() for one in ids]


def _alike(first: Rows, rows: Rows) -> bool:
    def widths(one: Rows) -> dict[str, tuple[int, ...]]:
        return {name: values.shape[1:] for name, values in one.layers.items()}

    return first.images.shape[1:] == rows.images.shape[1:] and widths(first) == widths(rows)
