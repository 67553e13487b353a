"""What keeps the server's ports and memory in bounds, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MOST_CONNECTIONS = 1024


@dataclass(frozen=True)
class Guards:
    """The settings.

    Attributes:
        keys: folder of keys, None for none: then only loopback addresses are allowed.
        connections: most connections of each port.
        memory: bytes at which the server stops and asks to be started again; 0: half of the machine's.
    """

    keys: Path | None = None
    connections: int = MOST_CONNECTIONS
    memory: int = 0
