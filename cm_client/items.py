"""What is handed over to be sent, and the messages each thing becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cm_client.protocol.codec import rows_per_chunk
from cm_client.protocol.messages import CaptureChunk, CaptureStart, ProbeChunk, ProbeStart


@dataclass(frozen=True, eq=False)
class CaptureItem:
    """A capture on its way: ``layers`` by module path, float32 ``[N, units]`` each, in the network's order."""

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
        layers = [[name, array.shape[1]] for name, array in self.layers.items()]
        probes = len(next(iter(self.layers.values())))
        yield CaptureStart(self.number, self.step, self.time, self.fingerprint, probes, layers)
        for index, array in enumerate(self.layers.values()):
            for start, part in _chunks(array):
                yield CaptureChunk(self.number, index, start, part)


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


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = rows_per_chunk(array[0].nbytes)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]
