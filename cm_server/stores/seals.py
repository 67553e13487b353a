"""Checksums of index rows: SQLite finds damage to its own structure, not to a number inside a row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

_SEALED = ("sequence", "layer", "run", "step", "summary")
"""Not where the arrays lie: they may move, or be given up."""


def seal_of(row: Mapping[str, Any]) -> int:
    """The checksum of a row of ``layer_reports``, over its numbers and what they are of.

    >>> row = {"sequence": 1, "layer": "a", "run": "r", "step": 2, "summary": {"d_anchor": 0.5, "units": 3}}
    >>> seal_of(row) == seal_of(row | {"summary": {"units": 3, "d_anchor": 0.5}})
    True
    >>> seal_of(row) == seal_of(row | {"step": 3})
    False
    """
    text = json.dumps([row[name] for name in _SEALED], sort_keys=True, separators=(",", ":"))
    return zlib.crc32(text.encode())
