"""One unit's rows out of many records: what a trail and a history are made of, without the rest of the layers.

A row is not checked against its record's checksum, which is over all units; `read_record` does that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cm_server.report import TOP_CONCEPTS, TOP_SAMPLES
from cm_server.stores.archive import stretches
from cm_server.stores.errors import StoreError

_SHAPES = {"positions": (2,), "concepts": (TOP_CONCEPTS,), "similarities": (TOP_CONCEPTS,)}
_SHAPES |= {"samples": (TOP_SAMPLES,), "activations": (TOP_SAMPLES,)}
_TYPES = {"live": "|b1", "concepts": "<i4", "samples": "<i4"}


class Place(NamedTuple):
    """What the index says of one snapshot of a layer.

    Attributes:
        sequence, step, time: of the snapshot.
        segment, offset: where its record lies; the segment is empty where the arrays were given up.
        arrays: the index's JSON, the same text for nearly every snapshot of a layer.
    """

    sequence: int
    step: int
    time: float
    segment: str
    offset: int
    arrays: str


@dataclass(frozen=True)
class _Row:
    """Where one array has its row of the unit, from the record's start on."""

    start: int
    size: int
    dtype: str
    shape: tuple[int, ...]


def unit_columns(root: Path, places: Sequence[Place], names: Sequence[str], unit: int) -> dict[str, np.ndarray]:
    """A unit's columns.

    Args:
        root: folder of the segments.
        places: the layer's snapshots, by step.
        names: arrays of `LayerArrays`.
        unit: index in the layer.

    Returns:
        ``sequences``, ``steps``, ``times`` and each of the names, ``[S, ...]`` of the S snapshots whose arrays are
        there. Where a record has no such array (it came with a later version), its rows are NaN.

    Raises:
        StoreError: the layer has no such unit, or bytes are missing.
    """
    kept = [place for place in places if place.segment]
    thinned = list(_given_up_before(places))
    extra = ("embeddings",) if any(thinned) and "shift" in names else ()
    found = _gathered(root, kept, (*names, *extra), unit)
    if extra:
        found["shift"] = true_shifts(found["shift"], found.pop("embeddings"), thinned)
    return found | {
        "sequences": np.array([place.sequence for place in kept], dtype=np.int64),
        "steps": np.array([place.step for place in kept], dtype=np.int64),
        "times": np.array([place.time for place in kept], dtype=np.float64),
    }


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
    for row, gone in enumerate(thinned):
        if gone and np.isfinite(found[row]):
            found[row] = np.linalg.norm(embeddings[row] - embeddings[row - 1]) if row else np.nan
    return found


def _given_up_before(places: Iterable[Place]) -> Iterator[bool]:
    """For each snapshot that is kept, whether any was given up since the one before it."""
    gone = False
    for place in places:
        if place.segment:
            yield gone
        gone = not place.segment


def _gathered(root: Path, places: Sequence[Place], names: Sequence[str], unit: int) -> dict[str, np.ndarray]:
    """The unit's rows of each array, ``[S, ...]``."""
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        alike[place.segment, place.arrays].append(index)
    found: dict[str, np.ndarray] = {}
    for (segment, arrays), indices in alike.items():
        rows = _rows(arrays, tuple(names), unit)
        if not rows:
            raise StoreError(
                f"no row {unit} in {segment} at byte {places[indices[0]].offset}: the layer has fewer units"
            )
        for name, row in rows.items():
            whole = found.setdefault(name, _empty(name, len(places), row))
            raw = stretches(root, segment, [places[index].offset + row.start for index in indices], row.size)
            values = np.frombuffer(b"".join(raw), dtype=row.dtype).reshape(len(raw), *row.shape)
            _put(whole, indices, values)
    return {name: found.get(name, _empty(name, len(places))) for name in names}


@lru_cache(maxsize=256)
def _rows(arrays: str, names: tuple[str, ...], unit: int) -> Mapping[str, _Row]:
    """Where the unit's rows lie, by array; empty if the record has no such unit."""
    found = {}
    for spec in json.loads(arrays):
        if spec["name"] in names and 0 <= unit < spec["shape"][0]:
            shape = tuple(spec["shape"][1:])
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(spec["dtype"]).itemsize
            found[spec["name"]] = _Row(spec["offset"] + unit * size, size, spec["dtype"], shape)
    return found


def _put(whole: np.ndarray, indices: list[int], values: np.ndarray) -> None:
    """Writes rows; those of another shape (a detector that keeps more concepts) stay NaN."""
    if values.shape[1:] == whole.shape[1:]:
        whole[indices] = values


def _empty(name: str, count: int, row: _Row | None = None) -> np.ndarray:
    dtype = np.dtype(_TYPES.get(name, "<f4") if row is None else row.dtype)
    shape = _SHAPES.get(name, ()) if row is None else row.shape
    return np.full((count, *shape), np.nan if dtype.kind == "f" else 0, dtype=dtype)
