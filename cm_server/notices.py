"""What delivery hands to the store, the channels and the dashboard: plain and immutable, as `report` is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cm_server.report import Alert

OPEN_STATES = ("firing", "recovering")
"""States in which an alert's condition holds, or did a moment ago."""
RANK = {"info": 0, "warning": 1, "error": 2}
MATCHED = ("run", "rule", "layer", "severity")
"""What a silence can match."""
FIRING, RESOLVED = "firing", "resolved"
WORSE = "worse"
"""What a channel was told of an alert that fires, once it was told that it became an error."""
QUEUED, DELIVERED, DEAD = "queued", "delivered", "dead"


@dataclass(frozen=True)
class Silence:
    """Alerts to keep quiet for a while.

    Attributes:
        id: a short text, unique in the store.
        matchers: field (one of `MATCHED`) to an exact value or a glob; all of them must match.
        created, expires: seconds since 1970.
        author, note: who wanted it, and why.
    """

    id: str
    matchers: Mapping[str, str]
    created: float
    expires: float
    author: str = ""
    note: str = ""

    def matches(self, alert: Alert) -> bool:
        """Whether the alert is meant, whatever the time."""
        return bool(self.matchers) and all(
            matches(pattern, str(getattr(alert, name))) for name, pattern in self.matchers.items()
        )

    def covers(self, alert: Alert, now: float) -> bool:
        """Whether the alert is to be quiet now."""
        return self.created <= now < self.expires and self.matches(alert)


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen an alert and it need not be repeated.

    Attributes:
        alert: its id.
        at: seconds since 1970.
        author, note: who, and what they have to say.
    """

    alert: int
    at: float
    author: str
    note: str


@dataclass(frozen=True)
class Told:
    """What a channel was last told of an alert.

    Attributes:
        status: ``firing``, ``worse`` or ``resolved``.
        severity: the worst it was told as.
        at: when that notice was written.
        delivered: whether any notice that it fires has arrived; only then is there a resolution to send.
    """

    status: str
    severity: str
    at: float
    delivered: bool = False


@dataclass(frozen=True)
class Item:
    """One alert in a notice: ``status`` is ``firing`` or ``resolved``; ``previous`` the severity told before."""

    alert: Alert
    status: str
    previous: str = ""


@dataclass(frozen=True)
class Notice:
    """What one channel is to be told at one time, of one run.

    Attributes:
        key: the same for every attempt, so that a receiver can drop what it has already seen.
        channel, run: to whom, about what.
        created: seconds since 1970.
        items: at least one.
    """

    key: str
    channel: str
    run: str
    created: float
    items: tuple[Item, ...]

    @property
    def firing(self) -> bool:
        """Whether any of its alerts fires."""
        return any(item.status == FIRING for item in self.items)


@dataclass(frozen=True)
class Letter:
    """A notice and what became of it.

    Attributes:
        notice: what is to be told.
        queued: when it was (last) put into the queue.
        state: ``queued``, ``delivered`` or ``dead``.
        attempts: how often it was tried since.
        next_at: not to be tried before.
        error: why the last attempt failed.
    """

    notice: Notice
    queued: float
    state: str = QUEUED
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""

    @property
    def key(self) -> str:
        """The notice's key."""
        return self.notice.key


def matches(pattern: str, value: str) -> bool:
    """Exact value or glob, case and all; a value with brackets in it also matches itself.

    >>> matches("layer*", "layer4"), matches("blocks[0]", "blocks[0]"), matches("layer", "layer4")
    (True, True, False)
    """
    return pattern == value or fnmatchcase(value, pattern)
