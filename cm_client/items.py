"""What is handed over to be sent, and the messages each thing becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cm_client.class_labels import ClassLabels
from cm_client.protocol.codec import rows_per_chunk
from cm_client.protocol.messages import (
    CaptureChunk,
    CaptureStart,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
)

NAMES_AT_ONCE = 16
"""Class names of up to 200 characters of up to four bytes: they share a header of 16 KiB."""


@dataclass(frozen=True, eq=False)
class CaptureItem:
    """A capture on its way: ``layers`` by module path, in the network's order.

    Each is float32 ``[N, units]``, or for a server that needs maps float16 ``[N, units, h, w]``.
    """

    number: int
    step: int
    time: float
    fingerprint: str
    layers: dict[str, np.ndarray]
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nbytes", sum(array.nbytes for array in self.layers.values()))

    def messages(self) -> Iterator[Any]:
        """The capture as messages, each within the frame limit."""
        layers = [[name, *array.shape[1:]] for name, array in self.layers.items()]
        probes = len(next(iter(self.layers.values())))
        yield CaptureStart(self.number, self.step, self.time, self.fingerprint, probes, layers)
        for index, array in enumerate(self.layers.values()):
            for start, part in _chunks(array):
                yield CaptureChunk(self.number, index, start, part)


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """The probe set as the server sees it: uint8 ``[N, H, W, 3]``, its fingerprint, where it comes from, its labels."""

    images: np.ndarray
    fingerprint: str
    source: str
    labels: ClassLabels | None = None

    def messages(self) -> Iterator[Any]:
        """The probe set as messages, each within the frame limit."""
        count, height, width = self.images.shape[:3]
        classes = len(self.labels.names) if self.labels else 0
        yield ProbeStart(self.fingerprint, count, height, width, self.source, classes)
        if self.labels is not None:
            yield from _label_messages(self.fingerprint, self.labels)
        for start, part in _chunks(self.images):
            yield ProbeChunk(self.fingerprint, start, part)


def _label_messages(fingerprint: str, labels: ClassLabels) -> Iterator[Any]:
    for start, part in _chunks(labels.numbers):
        yield ProbeLabels(fingerprint, start, part)
    for start in range(0, len(labels.names), NAMES_AT_ONCE):
        yield ProbeClasses(fingerprint, start, list(labels.names[start : start + NAMES_AT_ONCE]))


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = rows_per_chunk(array[0].nbytes)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]
