"""One unit's rows out of many records: what a trail and a history are made of, without the rest of the layers.

A row is not checked against its record's checksum, which is over all units; `read_record` does that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cm_server.report import TOP_CONCEPTS, TOP_SAMPLES
from cm_server.stores.errors import MissingBytesError, StoreError
from cm_server.stores.segments import ArraySpec


@dataclass(frozen=True)
class Place:
    """Where a record lies: ``arrays`` is the index's JSON, the same text for nearly every snapshot of a layer."""

    segment: str
    offset: int
    arrays: str


@dataclass(frozen=True)
class _Slice:
    """One row of one array inside a record."""

    name: str
    start: int
    size: int
    dtype: str
    shape: tuple[int, ...]


def read_unit(root: Path, places: Sequence[Place], names: Sequence[str], unit: int) -> dict[str, np.ndarray]:
    """The unit's row of each array in each record.

    Args:
        root: folder of the segments.
        places: S records of one layer.
        names: which arrays.
        unit: index in the layer.

    Returns:
        Arrays ``[S, ...]`` by name. One that some records lack has rows of NaN there; one that all lack is left out.

    Raises:
        StoreError: the layer has no such unit, or bytes are missing.
    """
    wanted = tuple(names)
    slices = [_slices(place.arrays, wanted, unit) for place in places]
    found: dict[str, list[tuple[_Slice, bytes] | None]] = {name: [] for name in wanted}
    with closing(_Files(root)) as files:
        for place, of_record in zip(places, slices, strict=True):
            if not of_record:
                raise StoreError(f"no row {unit} in {place.segment} at byte {place.offset}: the layer has fewer units")
            read = {one.name: (one, files.read(place, one)) for one in of_record}
            for name, rows in found.items():
                rows.append(read.get(name))
    return {name: _stacked(rows) for name, rows in found.items() if any(rows)}


@lru_cache(maxsize=256)
def _slices(arrays: str, names: tuple[str, ...], unit: int) -> tuple[_Slice, ...]:
    """Where the unit's rows lie; empty if the record has no such unit."""
    specs = {spec["name"]: ArraySpec(**spec) for spec in json.loads(arrays)}
    return tuple(_slice(specs[n], unit) for n in names if n in specs and 0 <= unit < specs[n].shape[0])


def _slice(spec: ArraySpec, unit: int) -> _Slice:
    shape = tuple(spec.shape[1:])
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    return _Slice(spec.name, spec.offset + unit * size, size, spec.dtype, shape)


def _stacked(rows: Sequence[tuple[_Slice, bytes] | None]) -> np.ndarray:
    """One array of all rows; NaN where a record has none (the array is new) or one of another shape."""
    like = next(row[0] for row in reversed(rows) if row is not None)
    fits = [row is not None and (row[0].dtype, row[0].shape) == (like.dtype, like.shape) for row in rows]
    joined = b"".join(row[1] for row, fit in zip(rows, fits, strict=True) if fit and row is not None)
    values = np.frombuffer(joined, dtype=like.dtype).reshape(-1, *like.shape)
    if all(fits):
        return values
    whole = np.full((len(rows), *like.shape), np.nan, dtype=np.result_type(like.dtype, np.float32))
    whole[np.asarray(fits)] = values
    return whole


class _Files:
    """Segments read from; snapshots in a row lie in one file, so only one is open at a time."""

    def __init__(self, root: Path) -> None:
        self._root, self._name, self._file = root, "", -1

    def read(self, place: Place, one: _Slice) -> bytes:
        if place.segment != self._name:
            self.close()
            try:
                self._file = os.open(self._root / place.segment, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                path = self._root / place.segment
                raise MissingBytesError(f"{path} is missing: restore it from a backup, or delete the run") from None
            self._name = place.segment
        data = os.pread(self._file, one.size, place.offset + one.start)
        if len(data) != one.size:
            raise StoreError(f"{self._root / place.segment} ends early: byte {place.offset + one.start + len(data)}")
        return data

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._name, self._file = "", -1


def true_shifts(shift: np.ndarray, embeddings: np.ndarray, thinned: Sequence[bool]) -> np.ndarray:
    """How far a unit moved between the snapshots that are kept.

    What stands in the store is the distance from the snapshot before, which retention may have given up since.

    Args:
        shift: ``[S]`` as stored; NaN where there was nothing to compare with.
        embeddings: ``[S, D]``.
        thinned: ``[S]``, whether snapshots between this one and the one before it are gone.

    Returns:
        ``[S]`` float32.

    >>> true_shifts(np.float32([np.nan, 1, 1]), np.float32([[0], [1], [4]]), [False, False, True]).tolist()
    [nan, 1.0, 3.0]
    """
    found = shift.astype(np.float32, copy=True)
    for row in _indices(thinned):
        if np.isfinite(found[row]):
            found[row] = np.linalg.norm(embeddings[row] - embeddings[row - 1]) if row else np.nan
    return found


def _indices(flags: Sequence[bool]) -> Iterator[int]:
    return (index for index, flag in enumerate(flags) if flag)


def places(rows: Sequence[Mapping[str, Any]]) -> list[Place]:
    """The places of rows with ``segment``, ``offset`` and the text of ``arrays``."""
    return [Place(row["segment"], row["offset"], row["arrays"]) for row in rows]


def unit_columns(
    root: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str], unit: int
) -> dict[str, np.ndarray]:
    """A unit's columns out of the index's rows.

    Args:
        root: folder of the segments.
        rows: by step, with ``sequence``, ``step``, ``captured_at``, ``segment`` (empty where the arrays were given up),
            ``offset`` and the text of ``arrays``.
        names: arrays of `LayerArrays`.
        unit: index in the layer.

    Returns:
        ``sequences``, ``steps``, ``times`` and each of the names.
    """
    kept = [row for row in rows if row["segment"]]
    thinned = [bool(before) for before in _given_up_before(rows)]
    extra = ("embeddings",) if any(thinned) and "shift" in names else ()
    found = read_unit(root, places(kept), (*names, *extra), unit)
    columns = {name: found.get(name, _empty(name, len(kept))) for name in names}
    if extra:
        columns["shift"] = true_shifts(columns["shift"], found["embeddings"], thinned)
    return columns | {
        "sequences": np.array([row["sequence"] for row in kept], dtype=np.int64),
        "steps": np.array([row["step"] for row in kept], dtype=np.int64),
        "times": np.array([row["captured_at"] for row in kept], dtype=np.float64),
    }


def _given_up_before(rows: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """For each row that is kept, how many were given up since the one before it."""
    count = 0
    for row in rows:
        if row["segment"]:
            yield count
            count = 0
        else:
            count += 1


_SHAPES = {"positions": (2,), "concepts": (TOP_CONCEPTS,), "similarities": (TOP_CONCEPTS,)}
_SHAPES |= {"samples": (TOP_SAMPLES,), "activations": (TOP_SAMPLES,)}
_TYPES = {"live": np.bool_, "concepts": np.int32, "samples": np.int32}


def _empty(name: str, count: int) -> np.ndarray:
    """An array that no record has: of a run without snapshots, or one that came with a later version."""
    kind = _TYPES.get(name, np.float32)
    return np.full((count, *_SHAPES.get(name, ())), np.nan if kind is np.float32 else 0, dtype=kind)
