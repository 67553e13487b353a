"""What can be wrong with a store, in words."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cm_server.stores.sqlstates import why_not

_LEAST_FREE = 64 * 1024
FULL = "there is no space left"
_BY_ERRNO = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: f"{FULL} under the user's quota",
    errno.EFBIG: "a file would be larger than the system allows",
    errno.EROFS: "it is read-only",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "the system has too many files open",
}
_BY_SQLITE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: "another process has locked its index",
    sqlite3.SQLITE_LOCKED: "another process has locked its index",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "its index is read-only",
    sqlite3.SQLITE_CANTOPEN: "its index cannot be opened",
    sqlite3.SQLITE_CORRUPT: "its index is damaged",
    sqlite3.SQLITE_NOTADB: "its index is damaged",
}


class StoreError(RuntimeError):
    """The store cannot be opened, written or read; the message names the path and the cure."""


class StoreInUseError(StoreError):
    """Another process writes the store."""


class MissingBytesError(StoreError):
    """A file of arrays is not there; a reader that was overtaken by a compaction finds its bytes at another place."""


def why_unwritable(error: BaseException, directory: Path | None = None) -> str:
    """In words, why the store could not be written; empty where the error says nothing of the store.

    Args:
        error: what was raised.
        directory: the store's folder; SQLite calls many a full disk an error of the disk, so the disk is asked too.

    >>> why_unwritable(OSError(errno.ENOSPC, "No space left on device")), why_unwritable(ValueError("x"))
    ('there is no space left', '')
    """
    for one in _causes(error):
        if isinstance(one, StoreInUseError):
            return "another server writes it now"
        if reason := why_not(one):
            return reason
        if isinstance(one, sqlite3.Error):
            code = getattr(one, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _BY_SQLITE:
                failed = code & 0xFF == sqlite3.SQLITE_IOERR
                return FULL if failed and directory is not None and _is_full(directory) else _BY_SQLITE[code & 0xFF]
        elif isinstance(one, OSError) and one.errno in _BY_ERRNO:
            return _BY_ERRNO[one.errno]
    return ""


def cannot_open(directory: Path, error: BaseException) -> StoreError:
    """What to tell a person who starts a server on a store that cannot be opened for writing."""
    reason = why_unwritable(error, directory) or str(error).splitlines()[0]
    cure = {
        FULL: "make room, or choose another folder with --store",
        _BY_SQLITE[sqlite3.SQLITE_CORRUPT]: "restore it from a backup, or choose another folder with --store",
    }.get(reason, "mend that, or choose another folder with --store")
    return StoreError(f"the store {directory} cannot be opened for writing, {reason}: {cure}")


def _is_full(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free < _LEAST_FREE
    except OSError:
        return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised from or wraps."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, BaseException) else error.__cause__ or error.__context__
