"""Chunks in, whole arrays out: complete, or a recorded reason why not. No sockets, no clocks.

Sizes are checked before anything is allocated; rows that come twice (a resend) are harmless, rows that would not fit
are refused with the whole array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cm_client.protocol import limits
from cm_client.protocol.messages import CaptureChunk, CaptureStart, ProbeChunk, ProbeStart


class AssemblyError(ValueError):
    """A start or a chunk contradicts the limits or what was announced; the text names the value."""


class Rows:
    """An array filled by rows, in any order, until each has come once."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.array = np.zeros(shape, dtype=dtype)
        self._here = np.zeros(shape[0], dtype=bool)

    def put(self, start: int, values: np.ndarray) -> None:
        """Writes rows ``start`` ….

        Raises:
            AssemblyError: dtype, row shape or range do not fit.
        """
        stop = start + len(values)
        fits = 0 <= start and stop <= len(self.array) and values.shape[1:] == self.array.shape[1:]
        if not fits or values.dtype != self.array.dtype:
            raise AssemblyError(
                f"rows {start} to {stop} of shape {values.shape[1:]} and dtype {values.dtype} do not fit "
                f"{self.array.shape} {self.array.dtype}"
            )
        self.array[start:stop] = values
        self._here[start:stop] = True

    @property
    def missing(self) -> int:
        """How many rows have not come yet."""
        return int(len(self._here) - self._here.sum())


@dataclass(frozen=True)
class Capture:
    """A whole capture: ``activations`` by layer, float32 ``[N, units]``, in the network's order.

    ``kind`` is ``probe`` or ``stream``; of a stream capture ``probe_fingerprint`` is that of its images' keys.
    """

    capture: int
    step: int
    time: float
    probe_fingerprint: str
    activations: dict[str, np.ndarray]
    kind: str = "probe"


class CaptureAssembly:
    """Collects one capture.

    Raises:
        AssemblyError: the announcement breaks a limit.
    """

    def __init__(self, start: CaptureStart) -> None:
        self.start = start
        layers = _checked_layers(start)
        total = 4 * start.probes * sum(units for _, units in layers)
        if total > limits.MAX_CAPTURE:
            raise AssemblyError(f"capture of {total} bytes: {limits.MAX_CAPTURE} are allowed; watch fewer layers")
        self.nbytes = total
        self._names = [name for name, _ in layers]
        self._rows = [Rows((start.probes, units), "<f4") for _, units in layers]

    def put(self, chunk: CaptureChunk) -> Capture | None:
        """Takes a chunk; the whole capture once nothing is missing.

        Raises:
            AssemblyError: the chunk does not belong here.
        """
        if not 0 <= chunk.layer < len(self._rows):
            raise AssemblyError(f"chunk for layer number {chunk.layer} of {len(self._rows)}")
        self._rows[chunk.layer].put(chunk.start, chunk.values)
        if any(rows.missing for rows in self._rows):
            return None
        arrays = {name: rows.array for name, rows in zip(self._names, self._rows, strict=True)}
        start = self.start
        return Capture(start.capture, start.step, start.time, start.probe_fingerprint, arrays, start.kind)


class ProbeAssembly:
    """Collects the images of a probe set, uint8 ``[N, H, W, 3]``.

    Raises:
        AssemblyError: the announcement breaks a limit.
    """

    def __init__(self, start: ProbeStart) -> None:
        self.start = start
        _in_range("probe images", start.count, limits.MAX_PROBES)
        _in_range("image height", start.height, limits.MAX_IMAGE_SIDE)
        _in_range("image width", start.width, limits.MAX_IMAGE_SIDE)
        if not (start.fingerprint.isalnum() and len(start.fingerprint) <= 128):
            raise AssemblyError(f"probe fingerprint {start.fingerprint[:64]!r} is not letters and digits")
        total = start.count * start.height * start.width * 3
        if total > limits.MAX_PROBE_SET:
            raise AssemblyError(f"probe set of {total} bytes: {limits.MAX_PROBE_SET} are allowed; send smaller images")
        self._rows = Rows((start.count, start.height, start.width, 3), "|u1")

    def put(self, chunk: ProbeChunk) -> np.ndarray | None:
        """Takes a chunk; all images once none is missing.

        Raises:
            AssemblyError: the chunk does not belong here.
        """
        if chunk.fingerprint != self.start.fingerprint:
            raise AssemblyError(f"images of probe set {chunk.fingerprint[:12]!r}, announced was another")
        self._rows.put(chunk.start, chunk.images)
        return None if self._rows.missing else self._rows.array


def _checked_layers(start: CaptureStart) -> list[tuple[str, int]]:
    _in_range("probe images", start.probes, limits.MAX_PROBES)
    _in_range("layers", len(start.layers), limits.MAX_LAYERS)
    layers: list[tuple[str, int]] = []
    for entry in start.layers:
        if not (len(entry) == 2 and type(entry[0]) is str and type(entry[1]) is int):
            raise AssemblyError(f"layer entry {str(entry)[:64]} is not [path, units]")
        _in_range(f"units of {entry[0][:64]!r}", entry[1], limits.MAX_UNITS)
        layers.append((entry[0], entry[1]))
    if len({name for name, _ in layers}) != len(layers):
        raise AssemblyError("a layer is announced twice")
    return layers


def _in_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise AssemblyError(f"{what}: {value} (1 to {maximum} is allowed)")
