"""The disk spool: what is handed over and not yet acked outlives a server's outage and the training process's death.

One directory per run and epoch, ``<CM_SPOOL>/<run>/<epoch>``, locked (flock) while its process lives. All of it is
read and written on the transport's thread. Its files hold messages as on the wire, each with a checksum
(`cm_client.records`):

    lock        held while the process lives
    head        `Hello`: who this is; on the disk (synced) before the epoch is first used
    probes      the probe set
    capture-…   one capture, gone once it is acked or dropped
    rows-…      scalar rows; a file goes once all of its rows are acked
    dropped     drops not yet acked
    finish      the run's end

Nothing but the head is synced: it is the process that may die, and the kernel still has what the process wrote. After
a power cut the newest half minute may be missing; what is torn is found by its checksum and cut.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cm_client.protocol.messages import Dropped, Finish, Hello, ScalarBatch
from cm_client.records import Log, read_log, read_whole, write_whole
from cm_client.rows import packed

LOG = logging.getLogger("cm_client")
DEFAULT_BYTES = 2 * 2**30
RESERVE = 2**30
"""Bytes (or a twentieth of the disk, where that is less) that a spool leaves free for the training's own files."""
SEGMENT_BYTES = 128 * 1024
ROWS_AT_ONCE = 1000
ROWS_SHARE = 16
"""One part in so many of the cap is for scalar rows alone: they are small, and give way last."""
LOOK_AGAIN = 30.0
"""Seconds after which the other directories' sizes are looked at again."""
_CAPTURE = re.compile(r"capture-(\d+)-(\d+)\.(cms|part)")
_ROWS = re.compile(r"rows-(\d+)\.cms")

_held: weakref.WeakSet[Spool] = weakref.WeakSet()


class SpoolError(RuntimeError):
    """A spool cannot be made or read; the text names the folder and the cure."""


@dataclass
class _Segment:
    log: Log
    last: int


@dataclass(frozen=True)
class Leftover:
    """What a dead process left.

    Attributes:
        captures: number, step and bytes of each whole capture.
        damaged: number and step of captures that were being written or are damaged.
        rows: numbers of the first and the last scalar row; (0, -1) where there is none.
        row_count: how many scalar rows.
        dropped: ``[number, step, reason]`` not yet acked.
        finish: the end, if it came to that.
        torn: bytes cut from torn tails.
    """

    captures: list[tuple[int, int, int]] = field(default_factory=list)
    damaged: list[tuple[int, int]] = field(default_factory=list)
    rows: tuple[int, int] = (0, -1)
    row_count: int = 0
    dropped: list[list[Any]] = field(default_factory=list)
    finish: Finish | None = None
    torn: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.captures or self.damaged or self.row_count or self.dropped or self.finish)


class Spool:
    """One locked directory; made by `spool_folders.create` or `take_over`. Implements `cm_client.outbox.Shelf`.

    Args:
        directory: ``<root>/<run>/<epoch>``.
        lock: its open lock file.
        hello: who it is.
        max_bytes: of the whole root.
    """

    def __init__(self, directory: Path, lock: int, hello: Hello, max_bytes: int = DEFAULT_BYTES) -> None:
        self.directory, self.hello = directory, hello
        self.run, self.epoch = directory.parent.name, directory.name
        self._lock, self._max_bytes = lock, max_bytes
        self._captures: dict[int, tuple[Path, int]] = {}
        self._segments: list[_Segment] = []
        self._dropped = Log(directory / "dropped.cms", self.run, self.epoch)
        self._probe_bytes = self._capture_bytes = 0
        self._others, self._looked = 0, float("-inf")
        self._warned = False
        _held.add(self)

    @property
    def nbytes(self) -> int:
        """Bytes of this directory."""
        logs = sum(segment.log.size for segment in self._segments) + self._dropped.size
        return logs + self._probe_bytes + self._capture_bytes

    def room(self, nbytes: int, rows: bool = False) -> bool:
        """See `Shelf`: whether neither the cap nor the disk's last reserve is touched by so much more."""
        root = self.directory.parents[1]
        now = time.monotonic()
        if now - self._looked > LOOK_AGAIN:
            self._others, self._looked = _size(root, self.directory), now
        most = self._max_bytes if rows else self._max_bytes - self._max_bytes // ROWS_SHARE
        if self._others + self.nbytes + nbytes > most:
            others = f", {self._others} of them of other processes" if self._others else ""
            self._warn(f"is full ({self._max_bytes} bytes{others}): the oldest captures go; give CM_SPOOL_BYTES more")
            return False
        with suppress(OSError):
            disk = os.statvfs(root)
            total, free = disk.f_frsize * disk.f_blocks, disk.f_frsize * disk.f_bavail
            if not total or free - nbytes >= min(RESERVE, total // 20):
                return True
            self._warn(f"has {free} bytes of its disk left: what is not yet sent is kept in memory only; make room")
        return False

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            LOG.warning("the spool %s %s; training goes on", self.directory, what)

    def keep_capture(self, number: int, step: int, messages: Iterable[Any]) -> bool:
        """See `Shelf`."""
        path = self.directory / f"capture-{number:08d}-{step}.cms"
        size = self._tried(lambda: write_whole(path, messages, self.run, self.epoch))
        if size is not None:
            self._captures[number] = path, size
            self._capture_bytes += size
        return size is not None

    def capture(self, number: int) -> Iterator[Any] | None:
        """See `Shelf`."""
        return read_whole(self._captures[number][0]) if number in self._captures else None

    def forget_capture(self, number: int) -> None:
        """See `Shelf`."""
        path, size = self._captures.pop(number, (None, 0))
        self._capture_bytes -= size
        if path is not None:
            with suppress(OSError):
                path.unlink()

    def keep_rows(self, rows: list[list[Any]]) -> bool:
        """See `Shelf`."""
        if not self._segments or self._segments[-1].log.size > SEGMENT_BYTES:
            path = self.directory / f"rows-{rows[0][0]:012d}.cms"
            self._segments.append(_Segment(Log(path, self.run, self.epoch), -1))
        segment = self._segments[-1]
        batches = [ScalarBatch(part) for part in packed(rows)]
        if self._tried(lambda: segment.log.append(batches)) is None:
            return False
        segment.last = rows[-1][0]
        return True

    def rows(self, after: int) -> list[list[Any]]:
        """See `Shelf`."""
        for segment in self._segments:
            if segment.last > after:
                found = [row for batch in read_log(segment.log.path)[0] for row in batch.rows if row[0] > after]
                if found:
                    return found[:ROWS_AT_ONCE]
        return []

    def forget_rows(self, number: int) -> None:
        """See `Shelf`."""
        while len(self._segments) > 1 and self._segments[0].last <= number:
            with suppress(OSError):
                self._segments.pop(0).log.path.unlink()
        if self._segments and self._segments[0].last <= number:
            self._segments[0].log.clear()

    def keep_dropped(self, number: int, step: int, reason: str) -> bool:
        """See `Shelf`."""
        told = [Dropped([[step, reason]], [number])]
        return self._tried(lambda: self._dropped.append(told)) is not None

    def forget_dropped(self) -> None:
        """See `Shelf`."""
        self._dropped.clear()

    def keep_probes(self, messages: Iterable[Any], nbytes: int) -> bool:
        """Keep the probe set, so that the memory need not."""
        path = self.directory / "probes.cms"
        size = self._tried(lambda: write_whole(path, messages, self.run, self.epoch)) if self.room(nbytes) else None
        self._probe_bytes = size or 0
        return size is not None

    def probes(self) -> Iterator[Any] | None:
        """The probe set's messages, None where there are none or they are damaged."""
        return read_whole(self.directory / "probes.cms")

    def keep_finish(self, finish: Finish) -> bool:
        """Keep the run's last word."""
        path = self.directory / "finish.cms"
        return self._tried(lambda: write_whole(path, [finish], self.run, self.epoch)) is not None

    def close(self, done: bool) -> None:
        """Let go of the directory; ``done``: everything is acked, it can be removed."""
        if self._lock < 0:
            return
        if done:
            remove(self.directory)
        os.close(self._lock)
        self._lock = -1

    def leftover(self) -> Leftover:
        """Look at everything a dead process left; torn tails are cut."""
        captures, damaged, torn = [], [], 0
        dropped, size = read_log(self._dropped.path)
        torn += _cut(self._dropped, size)
        gone = {number for message in dropped for number in message.captures}
        for path in sorted(self.directory.iterdir()):
            if match := _CAPTURE.fullmatch(path.name):
                number, step, size = int(match[1]), int(match[2]), path.stat().st_size
                if number in gone:
                    path.unlink()
                elif match[3] == "part":
                    damaged.append((number, step))
                    path.unlink()
                else:
                    self._captures[number] = path, size
                    self._capture_bytes += size
                    captures.append((number, step, size))
        numbers, cut = self._index_rows()
        probes, finish = self.directory / "probes.cms", read_whole(self.directory / "finish.cms")
        self._probe_bytes = probes.stat().st_size if probes.exists() else 0
        return Leftover(
            captures,
            damaged,
            (numbers[0], numbers[-1]) if numbers else (0, -1),
            len(numbers),
            [
                [number, *row]
                for message in dropped
                for number, row in zip(message.captures, message.rows, strict=False)
            ],
            next(finish, None) if finish is not None else None,
            torn + cut,
        )

    def _index_rows(self) -> tuple[list[int], int]:
        found: list[int] = []
        torn = 0
        for path in sorted(path for path in self.directory.iterdir() if _ROWS.fullmatch(path.name)):
            batches, size = read_log(path)
            log = Log(path, self.run, self.epoch)
            torn += _cut(log, size)
            numbers = [row[0] for batch in batches for row in batch.rows]
            found += numbers
            if numbers:
                self._segments.append(_Segment(log, numbers[-1]))
        return found, torn

    def _tried(self, work: Callable[[], Any]) -> Any:
        """The result of a write (True where it has none), None where the disk would not have it: one warning."""
        try:
            result = work()
        except OSError as error:
            cure = "what is not yet sent is kept in memory only; make room, or set CM_SPOOL to another folder or to off"
            self._warn(f"cannot be written ({error.strerror or error}): {cure}")
            return None
        return True if result is None else result

    def release_in_child(self) -> None:
        """A forked child holds a copy of the lock, which must not outlive the parent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _cut(log: Log, size: int) -> int:
    """Take a log up at its last good record; returns the bytes beyond it, which the next append cuts off."""
    log.size = size
    with suppress(OSError):
        return log.path.stat().st_size - size
    return 0


def _size(root: Path, but: Path) -> int:
    total = 0
    for folder, _, names in os.walk(root):
        if Path(folder) != but:
            for name in names:
                with suppress(OSError):
                    total += os.stat(os.path.join(folder, name)).st_size
    return total


def remove(directory: Path) -> None:
    """The head goes after all it stands for; the lock last: while it is there and locked, nobody else looks in."""
    with suppress(OSError):
        for path in sorted(directory.iterdir(), key=lambda path: path.name == "head.cms"):
            if path.name != "lock":
                path.unlink()
    shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        directory.parent.rmdir()


def _release_in_child() -> None:
    for spool in list(_held):
        spool.release_in_child()


os.register_at_fork(after_in_child=_release_in_child)
