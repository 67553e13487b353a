"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*")
LONGEST = 366 * 86_400.0


def seconds_of(value: object) -> float:
    """Seconds in ``90``, ``"90s"``, ``"15m"``, ``"2h"`` or ``"1.5d"``.

    Raises:
        ValueError: anything else, or more than a year.

    >>> seconds_of("2h"), seconds_of(15), seconds_of("1.5d")
    (7200.0, 15.0, 129600.0)
    """
    found = None if isinstance(value, bool) else _FORM.fullmatch(str(value))
    seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"{value!r} is no duration of up to a year: give for example 90s, 15m, 2h or 1d")
    return seconds


def in_words(seconds: float) -> str:
    """About how long, in one unit.

    >>> in_words(7260), in_words(40), in_words(3 * 86_400)
    ('2 h', '40 s', '3 days')
    """
    for size, name in ((2 * 86_400.0, "days"), (2 * 3600.0, "h"), (120.0, "min")):
        if seconds >= size:
            unit = {"days": 86_400.0, "h": 3600.0, "min": 60.0}[name]
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
