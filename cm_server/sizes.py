"""Sizes as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "b": 1} | {
    name: factor**power
    for power, letter in enumerate("kmgt", start=1)
    for name, factor in ((letter, 1000), (f"{letter}b", 1000), (f"{letter}ib", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def size(text: str) -> int:
    """Bytes from ``500 MB``, ``2GiB``, ``1.5g`` or a plain number.

    Raises:
        ValueError: it is none of these.

    >>> size("2 GiB"), size("1.5k"), size("7")
    (2147483648, 1500, 7)
    """
    found = _SIZE.fullmatch(text)
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"{text[:40]!r} is no size: give a number of bytes, or one with kB, MB, GB, TB or KiB … TiB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def readable(count: float) -> str:
    """Bytes in words of three digits.

    >>> readable(2_140_000), readable(12)
    ('2.14 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
