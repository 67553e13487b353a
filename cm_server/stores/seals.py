"""Checksums of index rows: SQLite finds damage to its own structure, not to a number inside a row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any


def seal_of(row: Mapping[str, Any]) -> int:
    """The checksum of a row of ``layer_reports``, over its numbers and what they are of.

    Not over where the arrays lie: they may move, or be given up.

    Args:
        row: with the ``summary`` as a value or, faster, as the text that is stored.

    >>> row = {"sequence": 1, "layer": "a", "run": "r", "step": 2, "summary": {"d_anchor": 0.5}}
    >>> seal_of(row) == seal_of(row | {"summary": '{"d_anchor": 0.5}'})
    True
    >>> seal_of(row) == seal_of(row | {"step": 3})
    False
    """
    summary = row["summary"]
    text = summary if isinstance(summary, str) else json.dumps(summary)
    return zlib.crc32(f"{row['sequence']} {row['step']} {row['run']} {row['layer']} {text}".encode())
