"""The spool's folders: a new one for each process, found and taken over once that is dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cm_client.protocol.messages import Hello
from cm_client.records import read_whole, write_whole
from cm_client.spool import DEFAULT_BYTES, Spool, SpoolError, remove


def create(root: Path, run: str, epoch: str, hello: Hello, max_bytes: int = DEFAULT_BYTES) -> Spool:
    """Make the directory of a new epoch: locked, its head on the disk, before anybody uses the epoch.

    Raises:
        SpoolError: the folder cannot be written, or is full already.
    """
    final, fresh = root / run / epoch, root / run / f".new-{epoch}"
    try:
        fresh.mkdir(parents=True, mode=0o700)
        lock = os.open(fresh / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_whole(fresh / "head.cms", [hello], run, epoch, sync=True)
        fresh.rename(final)
        for folder in (final, final.parent, root):
            _sync_folder(folder)
    except OSError as error:
        remove(fresh)
        raise SpoolError(
            f"the spool {root} cannot be written ({error.strerror or error}): what is not yet sent will die with this "
            "process; set CM_SPOOL to another folder, or to off"
        ) from None
    return Spool(final, lock, hello, max_bytes)


def take_over(directory: Path, max_bytes: int = DEFAULT_BYTES) -> Spool | None:
    """A dead process's directory, now locked by this one; None where somebody holds it, or it has just gone.

    Raises:
        SpoolError: it is not a spool, or its head is damaged.
    """
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolError(f"the spool {directory} cannot be opened ({error.strerror}): check its permissions") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.stat(directory / "lock").st_ino == os.fstat(lock).st_ino
    except OSError:
        same = False
    if not same:
        os.close(lock)
        return None
    if not (directory / "head.cms").exists():  # somebody died while removing it
        remove(directory)
        os.close(lock)
        return None
    head = next(read_whole(directory / "head.cms") or iter(()), None)
    if not isinstance(head, Hello):
        os.close(lock)
        raise SpoolError(
            f"the spool {directory} has no readable head: nothing in it can be told to a server; remove it"
        )
    return Spool(directory, lock, replace(head, backfill=True), max_bytes)


def find(folder: Path) -> list[Path]:
    """Every spool in a root, a run's folder, or the folder itself, by run and then by age."""
    if (folder / "lock").exists():
        return [folder]
    found = [lock.parent for depth in ("*/lock", "*/*/lock") for lock in folder.glob(depth)]
    return sorted((path for path in found if not path.name.startswith(".")), key=_age)


def default_root(env: Mapping[str, str]) -> Path:
    """The user's state folder: ``$XDG_STATE_HOME/concept-monitor/spool``."""
    base = env.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "concept-monitor" / "spool"


def _age(path: Path) -> tuple[str, float]:
    with suppress(OSError):
        return path.parent.name, (path / "head.cms").stat().st_mtime
    return path.parent.name, 0.0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
