"""Files that outlive a loss of power once they are promised: bytes synced, and the folder that names them too."""

from __future__ import annotations

import errno
import os
import zlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cm_server.fault_points import reach

_CHUNK = 2**20


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on the disk: a synced file may still vanish with its name."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, so that a loss of power does not take them away again."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def file_checksum(path: Path) -> tuple[int, int]:
    """Length and crc32 of a file."""
    crc, length = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc, length = zlib.crc32(chunk, crc), length + len(chunk)
    return length, crc


class AtomicFile:
    """A file that appears under its name only when it is complete and synced; nothing is left of a failed one.

    Attributes:
        length, crc32: of what was written, once it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self.length = self.crc32 = 0

    def __enter__(self) -> BinaryIO:
        make_folder(self._path.parent)
        self._file = self._part.open("wb")
        return self._file

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._keep()
        finally:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):  # renamed away, if all went well
                self._part.unlink()

    def _keep(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.length, self.crc32 = file_checksum(self._part)
        reach("file-written")
        self._part.replace(self._path)
        sync_folder(self._path.parent)
        reach("file-renamed")
