"""What must be sent so that a figure on screen becomes the new one: only its changed parts.

A figure is a plain dict. Its *signature* (a few bytes per part) travels to the browser beside it and comes back with
the next request, so the server keeps nothing per tab.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from dash import Patch

Figure = dict[str, Any]
Path = tuple[str | int, ...]
Signature = dict[str, Any]


def parts(figure: Figure) -> dict[Path, Any]:
    """The exchangeable parts: every key of every trace, and every key of the layout."""
    found: dict[Path, Any] = {}
    for index, trace in enumerate(figure["data"]):
        found |= {("data", index, key): value for key, value in trace.items()}
    return found | {("layout", key): value for key, value in figure["layout"].items()}


def signature(figure: Figure) -> Signature:
    """Hashes of the parts, and of which parts there are."""
    named = parts(figure)
    return {"shape": _digest([list(path) for path in named]), "parts": [_digest(value) for value in named.values()]}


def changed(old: Signature | None, figure: Figure, new: Signature | None = None) -> list[Path] | None:
    """Which parts differ from what is on screen; None if the figure must be sent whole."""
    new = new or signature(figure)
    if not old or old.get("shape") != new["shape"] or len(old.get("parts", ())) != len(new["parts"]):
        return None
    pairs = zip(parts(figure), old["parts"], new["parts"], strict=True)
    return [path for path, before, after in pairs if before != after]


def update(
    old: Signature | None, figure: Figure, new: Signature | None = None
) -> tuple[Figure | Patch | None, Signature]:
    """What to send, and the signature to keep.

    Args:
        old: the signature of what is on screen; None if nothing is.
        figure: what shall be on screen.
        new: its signature, if it is known already.

    Returns:
        The figure, a patch, or None where nothing changed; and the new signature.
    """
    new = new or signature(figure)
    paths = changed(old, figure, new)
    if paths is None:
        return figure, new
    if not paths:
        return None, new
    patch, named = Patch(), parts(figure)
    for path in paths:
        target = patch
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = named[path]
    return patch, new


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value, separators=(",", ":")).encode(), digest_size=6).hexdigest()
