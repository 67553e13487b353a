"""Checksums of index rows: SQLite finds damage to its own structure, not to a number inside a row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

_SEALED = ("sequence", "layer", "run", "step", "summary", "segment", "offset", "length", "crc32", "arrays")


def seal_of(row: Mapping[str, Any]) -> int:
    """The checksum of a row of ``layer_reports``, over what a report is read from.

    >>> row = dict.fromkeys(_SEALED, 1) | {"arrays": [{"shape": (2, 3)}]}
    >>> seal_of(row) == seal_of(row | {"arrays": [{"shape": [2, 3]}]}), seal_of(row) == seal_of(row | {"step": 2})
    (True, False)
    """
    text = json.dumps([row[name] for name in _SEALED], sort_keys=True, separators=(",", ":"))
    return zlib.crc32(text.encode())
