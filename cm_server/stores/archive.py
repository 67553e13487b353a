"""Array files that lie in an object store: closed segments, under the names that they had in the store's folder.

A segment is written on this machine, where a sync is a promise; once it is closed it never changes, and may move to
where space is cheap: S3, GCS, Azure, SFTP or a shared folder, whatever `fsspec` opens. The index says nothing of it. A
reader that misses a file looks for it there, and checks what it gets against the same checksums.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

from cm_server.stores.durable import AtomicFile
from cm_server.stores.errors import MissingBytesError, StoreError

FILE = "archive.json"
SEGMENTS = "segments"


class Archive:
    """A place in an object store.

    Args:
        url: as fsspec reads it, ``s3://bucket/prefix``; credentials come from where the protocol's library looks.

    Raises:
        StoreError: the library for it is not installed, or the address makes no sense.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(url)
        except ImportError as error:
            raise StoreError(
                f"the object store {url} needs a library: pip install fsspec, and the one for it ({error})"
            ) from None
        except (ValueError, OSError) as error:
            raise StoreError(f"--archive {url!r} is no address of an object store: {error}") from None

    def put(self, path: Path, name: str) -> None:
        """Copies a closed segment there; returns once it is there with all its bytes.

        Raises:
            OSError: it is not.
        """
        place, size = self._place(name), path.stat().st_size
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        part = f"{place}.part"
        self._files.put_file(str(path), part)
        self._files.invalidate_cache()
        if (found := self._files.size(part)) != size:
            raise OSError(f"{part} has {found} bytes, not {size}")
        self._files.mv(part, place)
        self._files.invalidate_cache()

    def read(self, name: str, starts: Sequence[int], length: int) -> list[bytes]:
        """Stretches of a segment, all of the same length; fetched together.

        Raises:
            MissingBytesError: it is not there.
            StoreError: the object store does not answer.
        """
        place = self._place(name)
        try:
            ends = [start + length for start in starts]
            found = self._files.cat_ranges([place] * len(starts), list(starts), ends, on_error="raise")
            return [bytes(one) for one in found]
        except FileNotFoundError:
            raise MissingBytesError(f"{name} is neither here nor in {self.url}: restore it from a backup") from None
        except Exception as error:  # each protocol has its own
            raise StoreError(f"{name} cannot be fetched from {self.url}: {error}") from None

    def names(self, run: str) -> list[str]:
        """The segments of a run that are there."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._place(f"{SEGMENTS}/{run}"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{run}/{name.rpartition('/')[2]}" for name in found if name.endswith(".seg"))

    def remove(self, name: str) -> int:
        """Takes a segment away; returns its bytes."""
        size = int(self._files.size(self._place(name)) or 0)
        self._files.rm_file(self._place(name))
        return size

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def archive_of(folder: Path) -> Archive | None:
    """The archive of a store; None while it has none.

    Raises:
        StoreError: what the folder says of it cannot be read.
    """
    path = folder / FILE
    try:
        written = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return _opened(path, written)


@lru_cache(maxsize=8)
def _opened(path: Path, _written: int) -> Archive:
    try:
        return Archive(str(json.loads(path.read_text(encoding="utf-8"))["url"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}): start the server with --archive once more") from None


def use(folder: Path, url: str) -> Archive:
    """Ties a store to an archive, for its readers too.

    Raises:
        StoreError: it cannot be opened, or the store has another one.
    """
    known = archive_of(folder)
    if known is not None and known.url != url:
        raise StoreError(f"the store {folder} has array files in {known.url}: move these to {url}, then mend {FILE}")
    archive = Archive(url)
    with AtomicFile(folder / FILE) as file:
        file.write(json.dumps({"url": url}).encode())
    return archive


def stretches(root: Path, segment: str, starts: Sequence[int], length: int) -> list[bytes]:
    """Stretches of a segment, all of the same length, from this machine's disk or from the store's archive.

    Args:
        root: what the segment's name is relative to, a folder in the store's.
        segment: its name.
        starts: first bytes.
        length: of each.

    Raises:
        MissingBytesError: it is in neither place.
        StoreError: it ends too early, or the archive does not answer.
    """
    try:
        handle = os.open(root / segment, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        archive = archive_of(root.parent)
        if archive is None:
            raise MissingBytesError(
                f"{root / segment} is missing: restore it from a backup, or delete the run"
            ) from None
        found = archive.read(f"{root.name}/{segment}", starts, length)
    else:
        try:
            # One call a stretch: mapping the file costs a page fault each, which is dearer.
            found = [os.pread(handle, length, start) for start in starts]
        finally:
            os.close(handle)
    for start, one in zip(starts, found, strict=True):
        if len(one) != length:
            raise StoreError(f"{segment} ends early: {len(one)} of {length} bytes at byte {start}")
    return found


def free_archived(archive: Archive | None, run: str, live: Collection[str]) -> int:
    """Takes away a run's archived segments that no row speaks of; returns their bytes."""
    if archive is None:
        return 0
    return sum(archive.remove(f"{SEGMENTS}/{name}") for name in archive.names(run) if name not in live)
