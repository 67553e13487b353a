"""A ceiling for the process's memory: better a clean restart, which loses nothing, than the system's killer.

libzmq puts a multipart message together without bound before anybody sees it (2 GB in 4 s were measured on an open
port), so the process has to watch itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESTART_STATUS = 75
"""Exit status of a server that stopped at its ceiling: start it again (EX_TEMPFAIL of sysexits.h)."""
LEAST = 2 * 2**30
_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryCeiling:
    """Says when the process has grown too large.

    Args:
        limit: bytes; 0 takes half of what the machine (or the container) has, but no less than `LEAST`.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit or max(LEAST, machine_memory() // 2)

    @property
    def exceeded(self) -> bool:
        """Whether the process's resident memory is above the limit; never where the system does not tell."""
        return resident() > self.limit


def resident() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not tell (it is not Linux)."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text().split()[1]) * _PAGE
    return 0


def machine_memory() -> int:
    """Bytes of memory the machine has, or the container is given."""
    found = os.sysconf("SC_PHYS_PAGES") * _PAGE
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found = min(found, int(Path(name).read_text()))
    return found
