"""One answer to a page: only what differs from what the page already has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dash import no_update

from dashboard import delta
from dashboard.drawn import Drawing, drawing


class Reply:
    """Compares with what was sent last and remembers what is sent now.

    Args:
        sent: the page's ``…-sent`` store, as the browser returned it; None for a new page.
        now: the page's ``…-now`` store; its number is the acknowledgement.
    """

    def __init__(self, sent: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
        self._old: dict[str, Any] = (sent or {}).get("parts", {})
        self._new: dict[str, Any] = dict(self._old)
        self._number = (now or {}).get("n", 0)

    def figure(self, name: str, figure: delta.Figure | Drawing) -> Any:
        """The figure, a patch to it, or nothing."""
        new = figure if isinstance(figure, Drawing) else drawing(figure)
        update, self._new[name] = delta.update(self._old.get(name), new.figure, new.signature)
        return no_update if update is None else update

    def part(self, name: str, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, or nothing if ``key`` is what it was; the key must be plain data."""
        plain = _plain(key)
        self._new[name] = plain
        return no_update if self._old.get(name, _NEVER) == plain else make()

    def sent(self) -> dict[str, Any]:
        """For the page's ``…-sent`` store."""
        return {"parts": self._new, "n": self._number}


_NEVER = object()


def _plain(key: Any) -> Any:
    """A key as it looks after its way through JSON."""
    return [_plain(part) for part in key] if isinstance(key, (list, tuple)) else key
