"""Messages in files: each a record of two lengths, a checksum and the message's frames as on the wire.

A file that is written whole ends with a mark that counts its records, so that a tail cut at a record's edge shows too.
A log has no end mark: it is read up to the first record that is torn or damaged, and cut there before it grows again.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from cm_client.protocol import ProtocolError, decode, encode, limits

_LENGTHS = struct.Struct("<III")
"""Bytes of the header frame, bytes of the array frame, crc32 over both. No header: the end mark, with the count."""


def write_whole(path: Path, messages: Iterable[Any], run: str, epoch: str, sync: bool = False) -> int:
    """Write a file that appears under its name only when it is complete; returns its size.

    Args:
        path: its name; meanwhile it ends in ``.part``.
        messages: what goes in.
        run, epoch: who says it.
        sync: whether it must survive a power cut.

    Raises:
        OSError: the disk will not have it; nothing is left of it.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            count = 0
            for message in messages:
                _put(file, encode(message, run, epoch, 0))
                count += 1
            file.write(_LENGTHS.pack(0, 0, count))
            size = file.tell()
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    return size


def is_whole(path: Path) -> bool:
    """Whether every record of a whole file is as it was written."""
    count = 0
    with suppress(OSError), path.open("rb") as file:
        while (frames := _next(file, count)) is not None:
            if not frames:
                return True
            count += 1
    return False


def read_whole(path: Path) -> Iterator[Any] | None:
    """The messages of a whole file, read one by one; None where it is damaged or gone."""
    return _messages(path) if is_whole(path) else None


def read_log(path: Path) -> tuple[list[Any], int]:
    """The messages of a log up to the first that is torn or damaged, and how many bytes these take."""
    found: list[Any] = []
    size = 0
    with suppress(OSError), path.open("rb") as file:
        while frames := _next(file):
            try:
                found.append(decode(frames).message)
            except ProtocolError:
                break
            size = file.tell()
    return found, size


class Log:
    """Appends messages to a file; a write that fails leaves what was there before."""

    def __init__(self, path: Path, run: str, epoch: str, size: int = 0) -> None:
        self.path, self.size = path, size
        self._run, self._epoch = run, epoch

    def append(self, messages: Iterable[Any]) -> None:
        """Write in one go.

        Raises:
            OSError: the disk will not have it.
        """
        data = b"".join(_record(encode(message, self._run, self._epoch, 0)) for message in messages)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Cuts a torn tail of an earlier failure, which would hide all that follows.
            os.ftruncate(descriptor, self.size)
            os.lseek(descriptor, self.size, os.SEEK_SET)
            written = 0
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
            self.size += written
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Everything in it is acked."""
        if self.size:
            with suppress(OSError):
                os.truncate(self.path, 0)
                self.size = 0


def _messages(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while frames := _next(file):
            yield decode(frames).message


def _record(frames: list[Any]) -> bytes:
    return b"".join(_parts(frames))


def _put(file: BinaryIO, frames: list[Any]) -> None:
    for part in _parts(frames):
        file.write(part)


def _parts(frames: list[Any]) -> list[Any]:
    header, array = frames[0], frames[1] if len(frames) > 1 else b""
    return [_LENGTHS.pack(len(header), len(array), zlib.crc32(array, zlib.crc32(header))), header, array]


def _next(file: BinaryIO, count: int = -1) -> list[bytes] | None:
    """The next record's frames, None where it is torn, damaged or over; an empty list at the end mark of ``count``."""
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header, array, check = _LENGTHS.unpack(lengths)
    if header == 0:
        return [] if (array, check) == (0, count) and not file.read(1) else None
    if header > limits.MAX_HEADER or array > limits.MAX_FRAME:
        return None
    frames = [file.read(header), file.read(array)] if array else [file.read(header)]
    if (
        sum(map(len, frames)) < header + array
        or zlib.crc32(frames[-1] if array else b"", zlib.crc32(frames[0])) != check
    ):
        return None
    return frames
