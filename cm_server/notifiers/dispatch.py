"""The delivery's shell: a thread per channel does the waiting, the server's loop does the deciding and the writing.

`Dispatcher.notify` and `tick` are called by the server's loop, the only one that writes the store. What is to be told
is written down (notice and *told*, in one transaction) before a thread may try it, and the outcome is written down
after. So a crash between any two of these steps repeats at most one attempt, with the same key.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from cm_server.clock import SteadyClock
from cm_server.core import outbox
from cm_server.core.delivery import KEPT_SECONDS, Delivery
from cm_server.core.outbox import Failure, Outbox
from cm_server.notices import DEAD, FIRING, QUEUED, Letter, Notice
from cm_server.notifiers.base import Channel, DeliveryError
from cm_server.notifiers.redaction import Redactor
from cm_server.notifiers.settings import NotifySettings
from cm_server.report import Alert
from cm_server.stores.delivery_writer import DeliveryWriter

logger = logging.getLogger("cm_server.notifications")

LOOK_SECONDS = 0.5
"""How often alerts and channels are compared."""
PAUSE_SECONDS = 5.0
"""After trouble with the store (a full disk), this long passes before the next try."""
PRUNE_SECONDS = 30 * 86_400.0
_Result = tuple[Letter, Failure | None]


class Dispatcher:
    """Delivers alerts to the configured channels; a `Notifier`.

    Args:
        tables: where notices and what was told are kept.
        settings: channels, routes, times.
        lives: whether a run is still going on.
        wake: called from a channel's thread when it has an outcome, so that the loop calls `tick`.
        clock: seconds since 1970, never going back.
        draw: a number between two, uniformly.
        on_outcome: called with a channel's name and what became of an attempt: delivered, failed or given_up.
    """

    name = "dispatch"

    def __init__(
        self,
        tables: DeliveryWriter,
        settings: NotifySettings,
        lives: Callable[[str], bool],
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] | None = None,
        draw: Callable[[float, float], float] = random.uniform,
        on_outcome: Callable[[str, str], None] = lambda channel, outcome: None,
    ) -> None:
        self._tables, self._settings, self._lives = tables, settings, lives
        self._clock, self._draw, self._on_outcome = clock or SteadyClock(), draw, on_outcome
        self._results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._unsaved: deque[_Result] = deque()
        self._carriers = {
            channel.name: _Carrier(channel, settings.attempt_seconds, settings.redact, self._results.put, wake)
            for channel in settings.channels
        }
        self._look_at = self._paused_until = -1e18
        self._delivery, self._outbox = self._read_back()

    def now(self) -> float:
        """Seconds since 1970 by the clock that never goes back."""
        return self._clock()

    @property
    def busy(self) -> bool:
        """Whether any attempt is going on, or its outcome is not written down yet."""
        return bool(self._outbox.out)

    def notify(self, alert: Alert) -> None:
        """Takes an alert's new state; nothing is sent before the next `tick`."""
        self._delivery.change(replace(alert, updated=max(alert.updated, self.now())))

    def tick(self, *, hurry: bool = False) -> None:
        """Writes down outcomes and what is to be told now, and hands out what may be tried; never waits.

        Args:
            hurry: the server stops: nothing waits for others to go out with.
        """
        now = self._clock()
        if now < self._paused_until:
            return
        try:
            self._take_results(now)
            if hurry or now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                for notice in self._delivery.due(now, self._lives, hurry=hurry):
                    self._write_down(notice, now)
            for letter in self._outbox.take(now):
                self._carriers[letter.notice.channel].carry(letter)
        except Exception:  # a full disk, above all: alerts wait, the runs go on
            self._paused_until = now + PAUSE_SECONDS
            logger.exception("notifications wait %g s", PAUSE_SECONDS)

    def refresh(self) -> None:
        """Reads silences, acknowledgements and replayed letters again, after somebody changed them."""
        now = self._clock()
        self._delivery.mute(self._tables.silences(now), self._tables.acknowledgements())
        for letter in self._tables.letters(QUEUED):
            if letter.key not in self._outbox and self._known(letter):
                self._outbox.put(letter)
                self._remember(letter)
        self._look_at = now

    def close(self, seconds: float = 3.0) -> None:
        """Tells what has not been told yet, and waits a little for what is on its way."""
        deadline = time.monotonic() + seconds
        self.tick(hurry=True)
        while self.busy and (left := deadline - time.monotonic()) > 0:
            try:
                self._unsaved.append(self._results.get(timeout=left))
            except queue.Empty:
                break
            self.tick(hurry=True)
        for carrier in self._carriers.values():
            carrier.stop()

    def _read_back(self) -> tuple[Delivery, Outbox]:
        """What an earlier server left: a clock that was ahead then must not hold anything back now."""
        now = self._clock()
        self._tables.prune(now - PRUNE_SECONDS)
        alerts = self._tables.current_alerts(now - KEPT_SECONDS)
        told = self._tables.told(alert.id for alert in alerts)
        told = {key: replace(one, at=min(one.at, now)) for key, one in told.items()}
        delivery = Delivery(self._settings.timing, self._settings.routes, alerts, told)
        delivery.mute(self._tables.silences(now), self._tables.acknowledgements())
        latest = now + self._settings.retry.most
        letters = [
            replace(letter, queued=min(letter.queued, now), next_at=min(letter.next_at, latest))
            for letter in self._tables.letters(QUEUED)
            if self._known(letter)
        ]
        return delivery, Outbox(self._settings.retry, letters)

    def _known(self, letter: Letter) -> bool:
        """Whether the letter's channel is (still) configured; if not, the letter is dead."""
        if letter.notice.channel in self._carriers:
            return True
        self._tables.save_letter(replace(letter, state=DEAD, error="this channel is not configured"))
        return False

    def _remember(self, letter: Letter) -> None:
        """A replayed letter may be about an alert that was long forgotten, whose end is then to be told too."""
        ids = [item.alert.id for item in letter.notice.items if not self._delivery.knows(item.alert.id)]
        self._delivery.told |= self._tables.told(ids)
        for alert in filter(None, map(self._tables.alert, ids)):
            self._delivery.change(replace(alert, updated=max(alert.updated, self._clock() - 1.0)))

    def _write_down(self, notice: Notice, now: float) -> None:
        letter = Letter(notice, queued=now)
        displaced = self._outbox.overflow(notice.channel)
        self._tables.write_down(letter, self._delivery.told_by(notice), displaced)
        self._delivery.record(notice)
        self._outbox.put(letter)
        if displaced is not None:
            self._outbox.put(displaced)
            logger.warning("notification %s to %s is given up: %s", displaced.key[:8], notice.channel, displaced.error)

    def _take_results(self, now: float) -> None:
        while True:
            try:
                self._unsaved.append(self._results.get_nowait())
            except queue.Empty:
                break
        while self._unsaved:
            self._settle(*self._unsaved[0], now)
            self._unsaved.popleft()

    def _settle(self, letter: Letter, failure: Failure | None, now: float) -> None:
        if failure is None:
            letter = outbox.arrived(letter)
            self._tables.save_letter(letter, [i.alert.id for i in letter.notice.items if i.status == FIRING])
            self._delivery.delivered(letter.notice)
            self._on_outcome(letter.notice.channel, "delivered")
        else:
            letter = outbox.failed(letter, failure, now, self._settings.retry, self._draw)
            self._tables.save_letter(letter)
            self._say(letter, now)
            self._on_outcome(letter.notice.channel, "given_up" if letter.state == DEAD else "failed")
        self._outbox.put(letter)

    def _say(self, letter: Letter, now: float) -> None:
        what = "is given up" if letter.state == DEAD else f"is tried again in {letter.next_at - now:.0f} s"
        logger.warning(
            "notification %s to %s %s (attempt %d failed): %s",
            letter.key[:8], letter.notice.channel, what, letter.attempts, letter.error,
        )  # fmt: skip


class _Carrier:
    """One channel's thread; it starts with the first letter."""

    def __init__(
        self,
        channel: Channel,
        seconds: float,
        redact: Redactor,
        report: Callable[[_Result], None],
        wake: Callable[[], None],
    ) -> None:
        self._channel, self._seconds, self._redact = channel, seconds, redact
        self._report, self._wake = report, wake
        self._letters: queue.SimpleQueue[Letter | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def carry(self, letter: Letter) -> None:
        """Hands a letter over; never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"notify-{self._channel.name}", daemon=True)
            self._thread.start()
        self._letters.put(letter)

    def stop(self) -> None:
        """Lets the thread end once it has nothing to do; one that hangs ends with the process."""
        self._letters.put(None)

    def _run(self) -> None:
        while (letter := self._letters.get()) is not None:
            self._report((letter, self._try(letter)))
            self._wake()

    def _try(self, letter: Letter) -> Failure | None:
        try:
            said = self._channel.send(letter.notice, self._seconds)
        except DeliveryError as error:
            return Failure(self._redact(str(error)), error.permanent, error.retry_after)
        except Exception as error:  # a channel's bug must not end its thread
            logger.exception("channel %s broke", self._channel.name)
            return Failure(self._redact(f"{type(error).__name__}: {error}")[:300])
        logger.debug("notification %s to %s: %s", letter.key[:8], self._channel.name, self._redact(said))
        return None
