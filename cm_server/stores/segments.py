"""Append-only array files: the bytes of the reports.

A record is the raw bytes of some named arrays, one after the other, 64-byte aligned. Where each array lies stands in
the index (`Extent`), whose row is written only after the bytes are synced: a row is the proof that its bytes exist.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from cm_server.fault_points import reach
from cm_server.stores.archive import stretches
from cm_server.stores.durable import make_folder, sync_folder
from cm_server.stores.errors import StoreError

ALIGNMENT = 64
SEGMENT_BYTES = 256 * 2**20
"""A segment is closed once it is larger than this."""
_AT_ONCE = 8


@dataclass(frozen=True)
class ArraySpec:
    """One array inside a record: ``offset`` is relative to the record's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Extent:
    """Where a record lies, and its checksum over all of its bytes and where each array lies in them.

    In older records it is over the bytes alone; `intact` takes either.
    """

    segment: str
    offset: int
    length: int
    crc32: int
    arrays: tuple[ArraySpec, ...]


def extent_of(row: Mapping[str, Any]) -> Extent:
    """The extent that a row of the index holds."""
    specs = tuple(ArraySpec(s["name"], s["dtype"], tuple(s["shape"]), s["offset"]) for s in row["arrays"])
    return Extent(row["segment"], row["offset"], row["length"], row["crc32"], specs)


def checksum(payload: bytes, arrays: tuple[ArraySpec, ...]) -> int:
    """The crc32 of a record: a changed layout would give other numbers from the same bytes."""
    layout = "".join(f"{spec.name} {spec.dtype} {spec.shape} {spec.offset};" for spec in arrays)
    return zlib.crc32(layout.encode(), zlib.crc32(payload))


def intact(payload: bytes, extent: Extent) -> bool:
    """Whether a record's bytes and layout are what was written."""
    return extent.crc32 in (checksum(payload, extent.arrays), zlib.crc32(payload))


class SegmentWriter:
    """Appends records to one run's newest segment. One writer per folder.

    A segment that could not be synced is left alone and a new one begun: after a failed sync nobody knows what of it is
    on the disk, and a second sync that succeeds does not say.
    """

    def __init__(self, root: Path, run: str) -> None:
        self._root = root
        self._folder = root / run
        make_folder(self._folder)
        self._file: FileIO | None = None
        self.name = ""
        """The segment that is appended to, relative to the root; empty while none is."""
        self.written = 0
        """Bytes appended since this writer was made."""

    def append(self, arrays: Mapping[str, np.ndarray]) -> Extent:
        """Appends one record; the bytes are safe only after :meth:`sync`.

        Raises:
            OSError: there is no room; what was written of the record is taken back.
        """
        specs, payload = _pack(arrays)
        segment, offset = self.append_raw(payload)
        return Extent(segment, offset, len(payload), checksum(payload, specs), specs)

    def append_raw(self, payload: bytes) -> tuple[str, int]:
        """Appends a record that is packed already; returns its segment and offset.

        Raises:
            OSError: there is no room; what was written of the record is taken back.
        """
        file = self._open()
        start = file.seek(0, os.SEEK_END)
        pad = -start % ALIGNMENT
        try:
            _write_all(file, b"\0" * pad + payload)
        except OSError:
            file.truncate(start)
            raise
        reach("segment-appended")
        self.written += pad + len(payload)
        return self.name, start + pad

    def sync(self) -> None:
        """Returns when everything appended so far is on the disk.

        Raises:
            OSError: it is not.
        """
        self._flush()
        reach("segment-synced")

    def _flush(self) -> None:
        if self._file is not None:
            try:
                os.fdatasync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    self.close()
                raise

    def close(self) -> None:
        """Closes the open segment; nothing is lost if the process is killed instead."""
        file, self._file, self.name = self._file, None, ""
        if file is not None:
            file.close()

    def _open(self) -> FileIO:
        if self._file is not None and self._file.tell() < SEGMENT_BYTES:
            return self._file
        self.sync()  # a record may end one segment and the next one of the same commit begin another
        self.close()
        path = next_path(self._folder)
        self._file = path.open("xb", buffering=0)
        sync_folder(self._folder)
        self.name = path.relative_to(self._root).as_posix()
        return self._file


class Syncer:
    """Syncs segments of several runs at once: a disk takes little longer for sixteen files than for one."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def sync(self, segments: Collection[SegmentWriter]) -> None:
        """Returns when everything appended to these segments is on the disk.

        Raises:
            OSError: of one of them it is not.
        """
        if len(segments) == 1:
            return next(iter(segments)).sync()
        self._pool = self._pool or ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sync")
        ended = wait([self._pool.submit(segment._flush) for segment in segments])
        for future in ended.done:
            future.result()
            reach("segment-synced")

    def close(self) -> None:
        """Ends its threads."""
        if self._pool is not None:
            self._pool.shutdown()


def next_path(folder: Path) -> Path:
    """Where a new segment of a folder goes: its number is above all that were ever given, so no name means two files.

    Whoever removes a folder's newest segment leaves an empty one behind it (`stores.removal`), which keeps the count.
    """
    newest = max((int(path.stem) for path in folder.glob("*.seg") if path.stem.isdecimal()), default=0)
    return folder / f"{newest + 1:06d}.seg"


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read_record(root: Path, extent: Extent) -> dict[str, np.ndarray]:
    """Reads a whole record and checks it.

    Raises:
        StoreError: the bytes are missing or do not match their checksum.
    """
    (payload,) = stretches(root, extent.segment, [extent.offset], extent.length)
    if not intact(payload, extent):
        raise StoreError(
            f"{extent.segment} is damaged at byte {extent.offset}: the checksum of this snapshot does not match; "
            "restore the file from a backup (other snapshots stay readable)"
        )
    return {spec.name: _view(payload, spec) for spec in extent.arrays}


def _pack(arrays: Mapping[str, np.ndarray]) -> tuple[tuple[ArraySpec, ...], bytes]:
    specs, parts, offset = [], [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array)
        specs.append(ArraySpec(name, data.dtype.str, tuple(data.shape), offset))
        raw = data.tobytes()
        raw += b"\0" * (-len(raw) % ALIGNMENT)
        parts.append(raw)
        offset += len(raw)
    return tuple(specs), b"".join(parts)


def _view(payload: bytes, spec: ArraySpec) -> np.ndarray:
    count = int(np.prod(spec.shape, dtype=np.int64))
    return np.frombuffer(payload, dtype=spec.dtype, count=count, offset=spec.offset).reshape(spec.shape)
