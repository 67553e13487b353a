"""Secrets: held so that printing them shows nothing, and struck out of every text that leaves the process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
_SHORTEST = 6
"""A piece of a URL shorter than this (``/api``, ``v2``) is no secret, and striking it out would spoil other words."""


class Secret:
    """A text that shows itself only when asked: not in logs, errors, tracebacks or a dataclass's repr.

    >>> Secret("hunter2hunter2")
    Secret(***)
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def reveal(self) -> str:
        """The text itself; for the wire only."""
        return self._value


NO_SECRET = Secret("")


class Redactor:
    """Replaces known secrets in any text.

    >>> hide = Redactor()
    >>> hide.add_url("https://hooks.example.com/services/T0123/B4567/abcdefgh")
    >>> hide("POST /services/T0123/B4567/abcdefgh failed")
    'POST *** failed'
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._ordered: tuple[str, ...] = ()

    def add(self, *values: str) -> None:
        """Takes secrets, each also as it looks when percent-encoded, in Python's repr and in JSON."""
        for value in values:
            quoted = quote(value), quote(value, safe=""), repr(value)[1:-1]
            as_json = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
            self._known |= {v for v in (value, *quoted, *as_json) if v}
        self._ordered = tuple(sorted(self._known, key=len, reverse=True))

    def add_url(self, url: str) -> None:
        """Takes a URL whose path, query and user part are secret (in most chat webhooks the path is the key)."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        pieces = [*parts.path.split("/"), *(p.split("=", 1)[-1] for p in parts.query.split("&"))]
        long = [p for p in (target, parts.path, parts.query, parts.password or "", *pieces) if len(p) >= _SHORTEST]
        self.add(*long, *(unquote(p) for p in long))

    def __call__(self, text: str) -> str:
        for secret in self._ordered:
            text = text.replace(secret, HIDDEN)
        return text


class RedactingFormatter(logging.Formatter):
    """Formats as another formatter does, then strikes out secrets, also from tracebacks and other libraries' lines."""

    def __init__(self, inner: logging.Formatter, redact: Redactor) -> None:
        super().__init__()
        self._inner, self._redact = inner, redact

    def format(self, record: logging.LogRecord) -> str:
        """One finished log line."""
        return self._redact(self._inner.format(record))


def guard(handlers: Iterable[logging.Handler], redact: Redactor) -> None:
    """Makes log handlers strike out secrets."""
    for handler in handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter(), redact))


def place(url: str) -> str:
    """A URL's scheme and host, which may be shown.

    >>> place("https://user:pw@hooks.example.com:8443/services/T0/B0?key=1")
    'https://hooks.example.com:8443'
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
