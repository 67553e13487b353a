"""Notices on their way: which to try now, when to try again, when to give up. Pure: no clock, no store, no chance.

Per channel one letter is out at a time, oldest first; letters about the same run keep their order, but a letter that
is refused again and again does not hold up other runs. Not *tenacity*: what is waiting has to outlive the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cm_server.notices import DEAD, DELIVERED, QUEUED, Letter


@dataclass(frozen=True)
class Retry:
    """When to try again, in seconds.

    Attributes:
        base, most: before retry n the wait is drawn from [0, min(most, base·2^n)]: exponential back-off with full
            jitter, so that many servers that lost one receiver do not come back all at once.
        give_up_after: a letter that has not arrived this long after it was queued is dead; it is listed, and can be
            sent again by hand.
        queue: most letters that may wait for one channel.
    """

    base: float = 2.0
    most: float = 300.0
    give_up_after: float = 3600.0
    queue: int = 100


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        reason: one line, without secrets.
        permanent: trying again would not help.
        retry_after: what the receiver asked for, in seconds; 0 if nothing.
    """

    reason: str
    permanent: bool = False
    retry_after: float = 0.0


class Outbox:
    """What waits, per channel.

    Args:
        retry: when to try again.
        letters: the queued ones, as the store has them.
    """

    def __init__(self, retry: Retry, letters: Iterable[Letter] = ()) -> None:
        self._retry = retry
        self._letters = {letter.key: letter for letter in sorted(letters, key=lambda le: (le.queued, le.key))}
        self._out: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._letters)

    def __contains__(self, key: object) -> bool:
        return key in self._letters

    @property
    def out(self) -> frozenset[str]:
        """Keys of the letters that are being tried at the moment."""
        return frozenset(self._out.values())

    def overflow(self, channel: str) -> Letter | None:
        """The letter that has to go, dead, before another may wait for this channel; None while there is room."""
        waiting = [letter for letter in self._letters.values() if letter.notice.channel == channel]
        if len(waiting) < self._retry.queue:
            return None
        oldest = next((letter for letter in waiting if letter.key not in self.out), None)
        reason = f"more than {self._retry.queue} notices were waiting for this channel"
        return None if oldest is None else replace(oldest, state=DEAD, error=oldest.error or reason)

    def put(self, letter: Letter) -> None:
        """Takes a letter's newest state; one that is delivered or dead is let go."""
        self._out = {channel: key for channel, key in self._out.items() if key != letter.key}
        if letter.state == QUEUED:
            self._letters[letter.key] = letter
        else:
            self._letters.pop(letter.key, None)

    def take(self, now: float) -> list[Letter]:
        """The letters to try now, at most one per channel; they count as out until they are `put` back."""
        found: dict[str, Letter] = {}
        held: set[tuple[str, str]] = set()
        for letter in self._letters.values():
            channel, run = letter.notice.channel, letter.notice.run
            if channel in self._out or channel in found or (channel, run) in held:
                continue
            if letter.next_at <= now:
                found[channel] = letter
            else:
                held.add((channel, run))
        self._out |= {channel: letter.key for channel, letter in found.items()}
        return list(found.values())


def arrived(letter: Letter) -> Letter:
    """The letter after an attempt that succeeded."""
    return replace(letter, state=DELIVERED, attempts=letter.attempts + 1, error="")


def failed(letter: Letter, failure: Failure, now: float, retry: Retry, draw: Callable[[float, float], float]) -> Letter:
    """The letter after an attempt that failed: to be tried again, or dead.

    Args:
        letter: as it was tried.
        failure: what happened.
        now: seconds since 1970.
        retry: when to try again.
        draw: a number between two, uniformly.
    """
    tried = replace(letter, attempts=letter.attempts + 1, error=failure.reason)
    last = letter.queued + retry.give_up_after
    wait = max(draw(0.0, min(retry.most, retry.base * 2.0 ** min(tried.attempts, 30))), failure.retry_after)
    if failure.permanent or now >= last or now + failure.retry_after > last:
        return replace(tried, state=DEAD)
    return replace(tried, next_at=min(now + wait, last))
