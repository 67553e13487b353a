"""What is handed over to be sent, and the messages each thing becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cm_client.protocol.codec import rows_per_chunk
from cm_client.protocol.messages import (
    CaptureChunk,
    CaptureStart,
    ProbeChunk,
    ProbeStart,
    SampleImages,
    SampleKeys,
)

ROWS_AT_ONCE = 512
"""Images in one message, at most: their rows stand in its header."""


@dataclass(frozen=True, eq=False)
class StreamSample:
    """The training images a stream capture was taken on.

    Attributes:
        keys: uint8 ``[N, 32]``, a sha256 for each image: of its content, or of the user's id for it.
        images: uint8 ``[N, H, W, 3]``.
        first_step: step of the first of them.
    """

    keys: np.ndarray
    images: np.ndarray
    first_step: int

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the keys, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.keys).data).hexdigest()


@dataclass(frozen=True, eq=False)
class CaptureItem:
    """A capture on its way: ``layers`` by module path, float32 ``[N, units]`` each, in the network's order.

    ``sample`` is None where it was taken on the probe set.
    """

    number: int
    step: int
    time: float
    fingerprint: str
    layers: dict[str, np.ndarray]
    sample: StreamSample | None = None
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        arrays = [*self.layers.values(), *([self.sample.keys, self.sample.images] if self.sample else [])]
        object.__setattr__(self, "nbytes", sum(array.nbytes for array in arrays))

    def messages(self) -> Iterator[Any]:
        """The whole capture as messages, each within the frame limit; the images of a stream capture come last."""
        layers = [[name, array.shape[1]] for name, array in self.layers.items()]
        probes = len(next(iter(self.layers.values())))
        kind, first = ("stream", self.sample.first_step) if self.sample else ("probe", -1)
        yield CaptureStart(self.number, self.step, self.time, self.fingerprint, probes, layers, kind, first)
        if self.sample:
            for start, part in _chunks(self.sample.keys):
                yield SampleKeys(self.number, start, part)
        for index, array in enumerate(self.layers.values()):
            for start, part in _chunks(array):
                yield CaptureChunk(self.number, index, start, part)
        if self.sample:
            for start, part in _chunks(self.sample.images, ROWS_AT_ONCE):
                yield SampleImages(self.number, list(range(start, start + len(part))), part)


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """The probe set as the server sees it: uint8 ``[N, H, W, 3]``, its fingerprint and where it comes from."""

    images: np.ndarray
    fingerprint: str
    source: str

    def messages(self) -> Iterator[Any]:
        """The probe set as messages, each within the frame limit."""
        count, height, width = self.images.shape[:3]
        yield ProbeStart(self.fingerprint, count, height, width, self.source)
        for start, part in _chunks(self.images):
            yield ProbeChunk(self.fingerprint, start, part)


def unasked(messages: Iterator[Any]) -> Iterator[Any]:
    """Those that go out without being asked for: all but images, most of which the server may have."""
    return (message for message in messages if not isinstance(message, SampleImages))


def asked(messages: Iterator[Any], rows: list[int]) -> Iterator[Any]:
    """The images of these rows among a capture's messages."""
    wanted = {row for row in rows if type(row) is int}
    for message in messages:
        if isinstance(message, SampleImages):
            places = [i for i, row in enumerate(message.rows) if row in wanted]
            if places:
                yield SampleImages(message.capture, [message.rows[i] for i in places], message.images[places])


def _chunks(array: np.ndarray, most: int = 2**20) -> Iterator[tuple[int, np.ndarray]]:
    rows = min(most, rows_per_chunk(array[0].nbytes))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]
