"""How long ago something was, in words."""

from __future__ import annotations


def age(seconds: float) -> str:
    """How long ago, in the largest fitting unit.

    >>> age(7200)
    '2 h ago'
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(max(0, seconds))} s ago"
