"""Chunks in, whole arrays out: complete, or a recorded reason why not. No sockets, no clocks.

Sizes are checked before anything is allocated; rows that come twice (a resend) are harmless, rows that would not fit
are refused with the whole array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from cm_client.protocol import limits
from cm_client.protocol.messages import (
    CaptureChunk,
    CaptureStart,
    ProbeChunk,
    ProbeClasses,
    ProbeLabels,
    ProbeStart,
)
from cm_client.protocol.needs import Needs


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

    Where the client sent maps they are in ``maps``, float16 ``[N, units, h, w]``, and `pooled` makes the activations.
    ``kind`` is ``probe`` or ``stream``; of a stream capture ``probe_fingerprint`` is that of its images' keys.
    """

    capture: int
    step: int
    time: float
    probe_fingerprint: str
    activations: dict[str, np.ndarray]
    kind: str = "probe"
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def layers(self) -> list[tuple[str, int]]:
        """The layers and their units."""
        return [(name, values.shape[1]) for name, values in (self.maps or self.activations).items()]

    def pooled(self, keep_maps: bool) -> Capture:
        """The same capture with activations: where there are maps, their means over the positions."""
        if not self.maps:
            return self
        means = {name: maps.mean(axis=(2, 3), dtype=np.float32) for name, maps in self.maps.items()}
        return replace(self, activations=means, maps=self.maps if keep_maps else {})


class CaptureAssembly:
    """Collects one capture.

    Raises:
        AssemblyError: the announcement breaks a limit.
    """

    def __init__(self, start: CaptureStart) -> None:
        self.start = start
        layers = _checked_layers(start)
        total = sum(start.probes * math.prod(shape) * np.dtype(_dtype(shape)).itemsize for _, shape in layers)
        if total > limits.MAX_CAPTURE:
            raise AssemblyError(f"capture of {total} bytes: {limits.MAX_CAPTURE} are allowed; watch fewer layers")
        self.nbytes = total
        self._names = [name for name, _ in layers]
        self._rows = [Rows((start.probes, *shape), _dtype(shape)) for _, shape in layers]

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
        maps = {name: array for name, array in arrays.items() if array.ndim == 4}
        pooled = {name: array for name, array in arrays.items() if array.ndim == 2}
        start = self.start
        about = start.capture, start.step, start.time, start.probe_fingerprint
        return Capture(*about, pooled, start.kind, maps)

    def lacks(self, needs: Needs) -> str:
        """Why this capture is of no use to a detector with these needs; empty where it is."""
        if needs.maps is None:
            return ""  # maps can be pooled here
        sizes = [rows.array.shape[2:] for rows in self._rows if rows.array.ndim == 4]
        wanted = f"maps of at most {needs.maps[0]}x{needs.maps[1]}"
        if not sizes:
            return f"it carries pooled values, taken before the client knew that the detector needs {wanted}"
        large = next((size for size in sizes if size[0] > needs.maps[0] or size[1] > needs.maps[1]), None)
        return f"it carries maps of {large[0]}x{large[1]}, the detector needs {wanted}" if large else ""


class ProbeAssembly:
    """Collects a probe set: images uint8 ``[N, H, W, 3]``, and class labels where they were announced.

    Raises:
        AssemblyError: the announcement breaks a limit.
    """

    def __init__(self, start: ProbeStart) -> None:
        check_announcement(start)
        self.start = start
        self._rows = Rows((start.count, start.height, start.width, 3), "|u1")
        self._numbers = Rows((start.count,), "<i4") if start.classes else None
        self._names: list[str | None] = [None] * start.classes

    def put(self, part: ProbeChunk | ProbeLabels | ProbeClasses) -> np.ndarray | None:
        """Takes a part; all images once nothing is missing, labels included.

        Raises:
            AssemblyError: the part does not belong here.
        """
        if part.fingerprint != self.start.fingerprint:
            raise AssemblyError(f"a part of probe set {part.fingerprint[:12]!r}, announced was another")
        if isinstance(part, ProbeChunk):
            self._rows.put(part.start, part.images)
        elif isinstance(part, ProbeLabels):
            self._put_numbers(part)
        else:
            self._put_names(part)
        missing = self._rows.missing or (self._numbers is not None and self._numbers.missing) or None in self._names
        return None if missing else self._rows.array

    @property
    def labels(self) -> tuple[np.ndarray, tuple[str, ...]] | None:
        """Class numbers int32 ``[N]`` and names, once complete; None where none were announced."""
        return None if self._numbers is None else (self._numbers.array, tuple(str(name) for name in self._names))

    def _put_numbers(self, part: ProbeLabels) -> None:
        if self._numbers is None:
            raise AssemblyError("class labels that were not announced")
        if part.numbers.min() < 0 or part.numbers.max() >= self.start.classes:
            raise AssemblyError(f"a class number outside of 0 to {self.start.classes - 1}")
        self._numbers.put(part.start, part.numbers)

    def _put_names(self, part: ProbeClasses) -> None:
        stop = part.start + len(part.names)
        if part.start < 0 or stop > len(self._names) or not all(isinstance(n, str) and n.strip() for n in part.names):
            raise AssemblyError(f"class names {part.start} to {stop} of {len(self._names)}: one text each is expected")
        self._names[part.start : stop] = [" ".join(name.split())[:200] for name in part.names]


def check_announcement(start: ProbeStart) -> None:
    """Whether a probe set of this announcement is within the limits; before its fingerprint names a file.

    Raises:
        AssemblyError: it is not.
    """
    _in_range("probe images", start.count, limits.MAX_PROBES)
    _in_range("image height", start.height, limits.MAX_IMAGE_SIDE)
    _in_range("image width", start.width, limits.MAX_IMAGE_SIDE)
    if not (start.fingerprint.isascii() and start.fingerprint.isalnum() and len(start.fingerprint) <= 128):
        raise AssemblyError(f"probe fingerprint {start.fingerprint[:64]!r} is not letters and digits")
    total = start.count * start.height * start.width * 3
    if total > limits.MAX_PROBE_SET:
        raise AssemblyError(f"probe set of {total} bytes: {limits.MAX_PROBE_SET} are allowed; send smaller images")
    if start.classes:
        _in_range("classes", start.classes, limits.MAX_CLASSES)


def _dtype(shape: tuple[int, ...]) -> str:
    """Maps travel as float16, pooled values as float32."""
    return "<f2" if len(shape) == 3 else "<f4"


def _checked_layers(start: CaptureStart) -> list[tuple[str, tuple[int, ...]]]:
    _in_range("probe images", start.probes, limits.MAX_PROBES)
    _in_range("layers", len(start.layers), limits.MAX_LAYERS)
    layers: list[tuple[str, tuple[int, ...]]] = []
    for entry in start.layers:
        if not (
            isinstance(entry, list)
            and len(entry) in (2, 4)
            and type(entry[0]) is str
            and all(type(size) is int for size in entry[1:])
        ):
            raise AssemblyError(f"layer entry {str(entry)[:64]} is not [path, units] or [path, units, height, width]")
        _in_range(f"units of {entry[0][:64]!r}", entry[1], limits.MAX_UNITS)
        for side in entry[2:]:
            _in_range(f"map side of {entry[0][:64]!r}", side, limits.MAX_MAP_SIDE)
        layers.append((entry[0], tuple(entry[1:])))
    if len({len(shape) for _, shape in layers}) > 1:
        raise AssemblyError("some layers come with maps and some without")
    if len({name for name, _ in layers}) != len(layers):
        raise AssemblyError("a layer is announced twice")
    return layers


def _in_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise AssemblyError(f"{what}: {value} (1 to {maximum} is allowed)")
